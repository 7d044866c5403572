"""Conversion of coordinate files."""
