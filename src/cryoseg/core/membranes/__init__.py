"""Membranes as objects: components of a mask, and their mid-surfaces with thickness and curvature."""
