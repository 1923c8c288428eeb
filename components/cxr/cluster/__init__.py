"""What train and serve ask of a Kubernetes cluster."""
