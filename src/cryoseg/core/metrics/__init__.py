"""Metrics of masks and picks."""
