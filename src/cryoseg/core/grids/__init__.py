"""Grids of voxels: axes, resampling, binning, tiles, blank regions and normalization."""
