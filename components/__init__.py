"""The four steps of cxrflow, one package a step, and `cxr`: what two or more of them know about chest X-rays."""
