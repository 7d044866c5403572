"""IMOD model files: points in, points out.

A model counts from the corner of the first voxel in x and y, and from its middle in z: the center
of voxel (0, 0, 0) is the point (0.5, 0.5, 0).

Source: IMOD's description of its binary format, "Model Coordinate Conventions".
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from cryoseg.errors import InputError
from cryoseg.io.outputs import atomic_output
from cryoseg.types import Picks

CORNER_XYZ = np.array([0.5, 0.5, 0.0])
MAX_COORDINATE = 2**31 - 1


def read_imod_model(path: Path) -> Picks:
    """All points of all contours of all objects; every contour becomes a track.

    Raises
    ------
    InputError
        If the file is no IMOD model, or holds no point.
    """
    import imodmodel

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = imodmodel.ImodModel.from_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except Exception as error:  # the parser raises whatever its struct and pydantic layers do
        raise InputError(f"{path}: is no IMOD model, or a damaged one ({type(error).__name__}).") from error
    contours = [contour.points for item in model.objects for contour in item.contours if len(contour.points)]
    if not contours:
        raise InputError(f"{path}: the model holds no points. Add points in 3dmod and save it.")
    xyz = np.concatenate(contours).astype(np.float64) - CORNER_XYZ
    tracks = np.repeat(np.arange(len(contours)), [len(points) for points in contours])
    return Picks(centers=xyz[:, ::-1].copy(), tracks=tracks if len(contours) > 1 else None, source=path)


def write_imod_model(
    path: Path, picks: Picks, *, radius_voxels: float = 5.0, overwrite: bool = False
) -> None:
    """One object of scattered points, or of one open contour per track.

    Parameters
    ----------
    path
        Ends in .mod.
    picks
        Three-dimensional; `shape` sets the model's limits.
    radius_voxels
        Of the spheres that 3dmod draws.
    overwrite
        Replace an existing file.
    """
    from imodmodel.models import Contour, ImodModel, ModelHeader, Object, ObjectHeader

    xyz = picks.centers[:, ::-1] + CORNER_XYZ
    tracks = picks.tracks if picks.tracks is not None else np.zeros(len(xyz), dtype=np.int64)
    shape = picks.shape or (0, 0, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        contours = [Contour(points=xyz[tracks == track].astype(np.float32)) for track in np.unique(tracks)]
        header = ObjectHeader(name="cryoseg picks", pdrawsize=max(1, round(radius_voxels)))
        header.flags.scattered = picks.tracks is None
        header.flags.open = picks.tracks is not None
        item = Object(contours=contours)
        item.header = header
        model_header = ModelHeader(zmax=shape[0], ymax=shape[1], xmax=shape[2])
        model_header.flags.z_coordinates_start_from_negative_half = True
        model_header.flags.mat1_and_mat3_are_bytes = True
        if picks.pixel_size > 0:
            model_header.pixelsize, model_header.units = picks.pixel_size / 10, -9  # nanometers
        with atomic_output(path, overwrite=overwrite) as temporary:
            ImodModel(header=model_header, objects=[item]).to_file(temporary)
