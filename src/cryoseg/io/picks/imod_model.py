"""Read and write the points of IMOD model files.

A model counts from the corner of the first voxel in x and y, and from its middle in z: the center
of voxel (0, 0, 0) is the point (0.5, 0.5, 0).

Source: IMOD's description of its binary format, also "Model Coordinate Conventions".
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError, reading
from cryoseg.io.outputs import atomic_output
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.sets import PickSets
from cryoseg.types import Picks

CORNER_XYZ = np.array([0.5, 0.5, 0.0])
# Lengths of the fixed parts in bytes; the last one is that of the header of a contour and of a mesh.
FLAGS_AT, DRAWN_FLIPPED = 152, 1 << 16  # offset and bit of "model last viewed on Y/Z flipped images"
MODEL_HEADER_BYTES, OBJECT_BYTES, CONTOUR_BYTES = 240, 176, 16
DEFAULT_RADIUS_VOXELS = 5.0


def read_mod(path: Path, frame: PickFrame) -> PickSets:
    """Read all points of all contours of all objects; every contour becomes a track."""
    with reading(path):
        content = path.read_bytes()
    contours = [points for points in _contours(content, path) if len(points)]
    if not contours:
        raise InputError(f"{path}: the model holds no points. Add points in 3dmod and save it.")
    xyz = np.concatenate(contours).astype(np.float64) - CORNER_XYZ
    if not np.isfinite(xyz).all():
        raise InputError(f"{path}: a point of the model is no number. Save it again in 3dmod.")
    tracks = np.repeat(np.arange(len(contours)), [len(points) for points in contours])
    (flags,) = _integers(content, FLAGS_AT, 1, path)
    said = f"{path.name}: was drawn on a volume with y and z exchanged; its points are taken as stored."
    picks = Picks(
        centers=xyz[:, ::-1].copy(),
        tracks=tracks if len(contours) > 1 else None,
        source=path,
        warnings=(said,) if flags & DRAWN_FLIPPED else (),
    )
    return {"": picks}


def _contours(content: bytes, path: Path) -> Iterator[NDArray[np.float32]]:
    """Yield the points (n, 3) x, y, z of each contour, as the model stores them.

    The length of every chunk is compared with the end of the file, so that a damaged length does not
    allocate memory.
    """
    if not content.startswith(b"IMOD"):
        raise _damaged(path)
    at = MODEL_HEADER_BYTES
    while (tag := content[at : at + 4]) != b"IEOF":
        at += 4
        points = 0
        if tag == b"OBJT":
            length = OBJECT_BYTES
        elif tag == b"CONT":
            (points,) = _integers(content, at, 1, path)
            length = CONTOUR_BYTES + 12 * points
        elif tag == b"MESH":
            vertices, indices = _integers(content, at, 2, path)
            length = CONTOUR_BYTES + 12 * vertices + 4 * indices
        else:
            (size,) = _integers(content, at, 1, path)
            length = 4 + size
        if length < 4 or points < 0 or at + length > len(content):
            raise _damaged(path)
        if tag == b"CONT":
            yield np.frombuffer(content, ">f4", 3 * points, at + CONTOUR_BYTES).reshape(-1, 3)
        at += length


def _integers(content: bytes, at: int, count: int, path: Path) -> tuple[int, ...]:
    if at + 4 * count > len(content):
        raise _damaged(path)
    return struct.unpack_from(f">{count}i", content, at)


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path}: is no IMOD model, or one that is cut short or damaged. Save it again in 3dmod."
    )


def order_in_model(picks: Picks) -> NDArray[np.int64]:
    """Return the order (n,) of the points in a model, which is that of their tracks."""
    if picks.tracks is None:
        return np.arange(len(picks))
    return np.argsort(picks.tracks, kind="stable")


def write_mod(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write one object of scattered points, or of one open contour per track.

    The `shape` of the picks sets the limits of the model. Voxel size and diameter in the frame give the
    spheres that 3dmod draws.
    """
    from imodmodel.models import Contour, ImodModel, ModelHeader, Object, ObjectHeader

    (picks,) = sets.values()
    radius = DEFAULT_RADIUS_VOXELS
    if frame.diameter_angstrom and frame.voxel_size:
        radius = frame.diameter_angstrom / frame.voxel_size / 2
    xyz = picks.centers[:, ::-1] + CORNER_XYZ
    tracks = picks.tracks if picks.tracks is not None else np.zeros(len(xyz), dtype=np.int64)
    shape = picks.shape or (0, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        contours = [Contour(points=xyz[tracks == track].astype(np.float32)) for track in np.unique(tracks)]
        header = ObjectHeader(name="cryoseg picks", pdrawsize=max(1, round(radius)))
        header.flags.scattered = picks.tracks is None
        header.flags.open = picks.tracks is not None
        item = Object(contours=contours)
        item.header = header
        model_header = ModelHeader(zmax=shape[0], ymax=shape[1], xmax=shape[2])
        model_header.flags.z_coordinates_start_from_negative_half = True
        model_header.flags.mat1_and_mat3_are_bytes = True
        if picks.pixel_size > 0:
            model_header.pixelsize, model_header.units = (
                picks.pixel_size / 10,
                -9,
            )  # -9 means nanometers.
        with atomic_output(path, overwrite=True) as temporary:
            ImodModel(header=model_header, objects=[item]).to_file(temporary)
