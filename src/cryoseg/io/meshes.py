"""Write mid-surfaces as triangle meshes: PLY, OBJ, STL and GLB, with x, y, z in angstrom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.membranes.midsurface import Surface
from cryoseg.errors import ConfigError
from cryoseg.io.outputs import atomic_output
from cryoseg.types import Geometry

MESH_SUFFIXES = (".ply", ".obj", ".stl", ".glb")


def require_mesh_libraries() -> Any:
    """Return the module trimesh.

    Raises
    ------
    ConfigError
        If it, or the library that decimates for it, is not installed.
    """
    try:
        import fast_simplification  # noqa: F401
        import trimesh
    except ImportError as error:
        raise ConfigError(
            f"Meshes need the package {error.name}. Install it: pip install 'cryoseg[measure]'."
        ) from error
    return trimesh


def write_mesh(
    path: Path,
    surfaces: Sequence[Surface],
    geometry: Geometry,
    *,
    values: Mapping[str, NDArray[Any]] | None = None,
    keep: float = 1.0,
) -> None:
    """Write surfaces as one mesh.

    PLY and GLB hold the normal, thickness, curvatures and component of every vertex; OBJ holds the normal,
    and STL the triangles alone.

    Parameters
    ----------
    path
        File that ends in one of `MESH_SUFFIXES`.
    surfaces
        Surfaces to write, of which there is at least one.
    geometry
        Geometry of the tomogram, whose origin is added.
    values
        Further (n,) values of the vertices of all surfaces by name.
    keep
        Share of the triangles that is kept.

    Raises
    ------
    ConfigError
        If trimesh is not installed.
    OutputError
        If the file cannot be written.
    """
    trimesh = require_mesh_libraries()
    starts = np.cumsum([0, *(len(one.normals) for one in surfaces)])
    vertices = np.concatenate([one.mesh.vertices for one in surfaces]) + np.asarray(geometry.origin)
    # The exchange of z and x mirrors the triangles.
    faces = np.concatenate(
        [one.mesh.faces[:, ::-1] + start for one, start in zip(surfaces, starts, strict=False)]
    )
    normals = np.concatenate([one.normals for one in surfaces])[:, ::-1]
    attributes = {
        "thickness": np.concatenate([one.thickness for one in surfaces]),
        "mean_curvature": np.concatenate([one.mean_curvature for one in surfaces]),
        "gaussian_curvature": np.concatenate([one.gaussian_curvature for one in surfaces]),
        **(values or {}),
    }
    attributes = {name: value.astype(np.float32) for name, value in attributes.items()}
    kind = path.suffix.lower()
    # glTF has no attributes of 32-bit integers.
    number_type = np.float32 if kind == ".glb" else np.int32
    attributes["component"] = np.concatenate([one.component for one in surfaces]).astype(number_type)
    vertices = vertices[:, ::-1]
    if keep < 1:
        mesh = trimesh.Trimesh(vertices, faces, process=False)
        small = mesh.simplify_quadric_decimation(percent=1 - keep)
        nearest = _nearest(vertices, small.vertices)
        vertices, faces = np.asarray(small.vertices), np.asarray(small.faces)
        normals = normals[nearest]
        attributes = {name: value[nearest] for name, value in attributes.items()}
    mesh = trimesh.Trimesh(
        vertices, faces, vertex_normals=normals, vertex_attributes=attributes, process=False
    )
    options = {".ply": {"vertex_normal": True}, ".obj": {"include_normals": True}}
    with atomic_output(path, overwrite=True) as temporary:
        content = mesh.export(file_type=kind[1:], **options.get(kind, {}))
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def _nearest(points: NDArray[Any], others: NDArray[Any]) -> NDArray[np.int64]:
    from scipy.spatial import KDTree

    return np.asarray(KDTree(points).query(others)[1], np.int64)
