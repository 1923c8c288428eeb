"""The four steps of cxrflow, one package per step, and `cxr`: what two or more of them know about chest X-rays."""
