"""The training loop of every method, its processes and its report."""
