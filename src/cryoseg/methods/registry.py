"""The table of segmentation methods; `cryoseg.methods.segmenter` describes what a method needs.

A new method needs a folder in `methods`, a member of `ModelName`, a row here, an entry in `WEIGHTS`, a
page in docs/methods and tests.
"""

from __future__ import annotations

from cryoseg.config import ModelName
from cryoseg.methods.etsam import network as etsam
from cryoseg.methods.membrane_tiny import network as membrane_tiny
from cryoseg.methods.segmenter import Method

METHODS: dict[ModelName, Method] = {ModelName.ETSAM: etsam, ModelName.MEMBRANE_TINY: membrane_tiny}
