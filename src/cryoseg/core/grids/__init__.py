"""Grids of voxels: axes, resampling, binning, tiles and how they are blended."""
