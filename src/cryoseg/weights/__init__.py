"""Network settings and the weights that the package carries."""
