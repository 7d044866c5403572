"""Picking particles in files."""
