"""The network, what it takes, and its answers."""
