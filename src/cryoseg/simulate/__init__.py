"""Simulated tomograms with exact labels."""
