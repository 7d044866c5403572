"""Names of inputs in copick projects, and names of the files of the projects."""

from __future__ import annotations

import re

COPICK_SCHEME = "copick://"
# A volume in a copick project. Source: copick 1.31, impl/filesystem.py (copick/copick@8c3c366).
COPICK_MEMBER = re.compile(
    r"/ExperimentRuns/(?P<run>[^/]+)/(?:VoxelSpacing|Segmentations/)(?P<size>\d[\d.]*)[/_](?P<name>[^/]+)\.zarr$"
)
