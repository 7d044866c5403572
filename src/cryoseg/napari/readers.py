"""Readers of volumes and coordinate files for napari."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cryoseg
from cryoseg.config.pick import PICK_SUFFIXES
from cryoseg.core.masks.binarize import VoxelKind, voxel_kind
from cryoseg.io.images.volumes import VOLUME_SUFFIXES, known_suffix, read_tomogram
from cryoseg.io.inputs import stem
from cryoseg.io.picks.chimerax import chimerax_frame
from cryoseg.napari.layers import KEY
from cryoseg.napari.points import read_points
from cryoseg.types import Geometry, Tomogram

LayerData = tuple[Any, dict[str, Any], str]
MOTIVE_LIST = (1, 20)  # Size in z and x of EM files that contain coordinates.
CONTRAST_PERCENTILES = (1.0, 99.0)
_LABELS = re.compile(r"_(?:mask|labels?|components)\.", re.I)
_LOGITS = re.compile(r"_(?:logits|heat_map)\.", re.I)


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return the reader of files; None if cryoseg cannot read one of them."""
    paths = [path] if isinstance(path, str) else path
    known = all(
        known_suffix(Path(one)) is not None or Path(one).suffix.lower() in PICK_SUFFIXES for one in paths
    )
    return read_layers if known else None


def read_layers(path: str | Sequence[str]) -> list[LayerData]:
    """Read volumes as images or labels, and coordinate files as points.

    Raises
    ------
    CryosegError
        If a file is missing, damaged or of another kind.
    """
    layers: list[LayerData] = []
    for one in map(Path, [path] if isinstance(path, str) else path):
        tomogram = None if known_suffix(one, VOLUME_SUFFIXES) is None else read_tomogram(one)
        if tomogram is None or (one.suffix.lower() == ".em" and tomogram.data.shape[::2] == MOTIVE_LIST):
            layers.extend(read_points(one))
        else:
            layers.append(volume_layer(tomogram))
    return layers


def sample_tomogram() -> list[LayerData]:
    """Return the simulated tomogram that the package contains."""
    return read_layers(str(Path(cryoseg.__file__).parent / "samples" / "sample_0000_tomogram.mrc"))


def volume_layer(tomogram: Tomogram) -> LayerData:
    """Return the layer of a volume, at the position of its header.

    Masks and labels become a labels layer, everything else an image. A volume of one slice becomes a layer
    with two axes.
    """
    path, data = tomogram.source, tomogram.data
    kind = "tomogram"
    if data.dtype.kind in "iub" and (_LABELS.search(path.name) or voxel_kind(data) is VoxelKind.MASK):
        kind = "labels"
    elif _LOGITS.search(path.name):
        kind = "logits"
    data = data[0] if len(data) == 1 else data
    attributes: dict[str, Any] = {
        "name": stem(path),
        "metadata": {KEY: {"path": str(path.absolute()), "kind": kind}},
        **placement(tomogram.geometry, data.ndim),
    }
    if kind == "labels":
        # A copy, so that voxels can be painted.
        return np.array(data, np.uint8 if data.dtype.kind == "b" else data.dtype), attributes, "labels"
    if kind == "logits":
        attributes |= {"colormap": "PiYG_r", "contrast_limits": (-8.0, 8.0), "visible": False}
    else:
        middle = np.asarray(data[len(data) // 2] if data.ndim == 3 else data, np.float32)
        low, high = (float(value) for value in np.nanpercentile(middle, CONTRAST_PERCENTILES))
        attributes |= {"colormap": "gray", "contrast_limits": (low, high if high > low else low + 1)}
    return data, attributes, "image"


def placement(geometry: Geometry, dimensions: int) -> dict[str, Any]:
    """Return scale, translation and units of a layer for a geometry."""
    origin, step = chimerax_frame(geometry)
    known = all(size > 0 for size in geometry.voxel_size)
    return {
        "scale": step[::-1][-dimensions:],
        "translate": origin[::-1][-dimensions:],
        "units": ("angstrom" if known else "pixel",) * dimensions,
    }
