"""One folder per method: its network, its samples, its losses and its training."""
