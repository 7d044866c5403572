"""Segmenting and post-processing files."""
