"""What is learned: each objective has its loss, its state (as an nn.Module) and the name of its metrics."""
