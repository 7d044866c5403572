"""Arithmetic on arrays: no torch, no files, no printing."""
