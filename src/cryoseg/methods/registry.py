"""The table of segmentation methods; `cryoseg.methods.segmenter` describes its rows.

A new method needs a folder in `methods`, a member of `ModelName`, a row here, an entry in `WEIGHTS`, a
page in docs/methods and tests.
"""

from __future__ import annotations

from cryoseg.config import ModelName
from cryoseg.methods.etsam import network as etsam
from cryoseg.methods.membrane_tiny import network as membrane_tiny
from cryoseg.methods.segmenter import Method

METHODS: dict[ModelName, Method] = {
    ModelName.ETSAM: Method(
        weights=("etsam_stage1", "etsam_stage2"),
        resolve=etsam.resolve,
        segment=etsam.segment,
        assumed_pixel_size=etsam.assumed_pixel_size,
        host_bytes=etsam.HOST_BYTES,
    ),
    ModelName.MEMBRANE_TINY: Method(
        weights=("membrane_tiny",),
        resolve=membrane_tiny.resolve,
        segment=membrane_tiny.segment,
        assumed_pixel_size=membrane_tiny.assumed_pixel_size,
        host_bytes=membrane_tiny.HOST_BYTES,
    ),
}
