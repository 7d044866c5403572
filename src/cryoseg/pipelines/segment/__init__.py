"""Segmentation and post-processing of files."""
