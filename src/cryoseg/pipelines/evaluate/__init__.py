"""Metrics of files against their truth."""
