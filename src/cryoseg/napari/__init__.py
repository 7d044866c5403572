"""Plugin for napari; it starts `cryoseg` in processes of its own, since Qt and torch do not share one."""
