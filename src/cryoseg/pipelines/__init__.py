"""One sentence per command: read, compute, write."""
