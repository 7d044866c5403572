"""Measure the membranes of masks."""
