"""Meshes as other programs read them."""

import builtins

import numpy as np
import pytest

from cryoseg.core.membranes.midsurface import mid_surface
from cryoseg.errors import ConfigError
from cryoseg.io.meshes import require_mesh_libraries, write_mesh
from cryoseg.types import Geometry

trimesh = pytest.importorskip("trimesh")


@pytest.fixture(scope="module")
def surface():
    grid = np.mgrid[:30, :34, :38]
    radius = np.linalg.norm(grid - np.array([14.5, 16.5, 18.5])[:, None, None, None], axis=0)
    return mid_surface(np.abs(radius - 11) < 2, 10.0)


GEOMETRY = Geometry(voxel_size=(10.0, 10.0, 10.0), origin=(1000.0, 2000.0, 3000.0))


@pytest.mark.parametrize("suffix", ["ply", "obj", "stl", "glb"])
def test_a_closed_surface_is_watertight_outward_and_at_the_origin_of_the_header(tmp_path, surface, suffix):
    path = tmp_path / f"sphere.{suffix}"
    write_mesh(path, [surface], GEOMETRY)
    mesh = trimesh.load(path, force="mesh")
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 110**3, rel=0.02)
    assert mesh.bounds.mean(0) == pytest.approx([3185, 2165, 1145], abs=3)
    outward = mesh.vertices - mesh.bounds.mean(0)
    assert ((outward * mesh.vertex_normals).sum(1) > 0).all()


def test_ply_holds_the_values_of_every_vertex(tmp_path, surface):
    path = tmp_path / "sphere.ply"
    write_mesh(path, [surface], GEOMETRY, values={"density_thickness": np.full(len(surface.normals), 40.0)})
    vertex = trimesh.load(path, process=False).metadata["_ply_raw"]["vertex"]
    data = vertex["data"]
    assert np.asarray(data["thickness"]).ravel() == pytest.approx(surface.thickness, rel=1e-5)
    assert np.asarray(data["mean_curvature"]).ravel() == pytest.approx(surface.mean_curvature, rel=1e-5)
    assert (np.asarray(data["component"]) == 1).all()
    assert (np.asarray(data["density_thickness"]) == 40).all()
    assert np.asarray(data["nz"]).ravel() == pytest.approx(surface.normals[:, 0], abs=1e-6)


def test_decimation_keeps_a_share_of_the_triangles_and_the_closed_surface(tmp_path, surface):
    path = tmp_path / "small.ply"
    write_mesh(path, [surface], GEOMETRY, keep=0.25)
    mesh = trimesh.load(path, process=False)
    assert len(mesh.faces) == pytest.approx(0.25 * len(surface.mesh.faces), rel=0.05)
    assert mesh.is_watertight
    assert mesh.area == pytest.approx(4 * np.pi * 110**2, rel=0.03)


def test_a_missing_library_is_named_with_the_extra(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **options):
        if name == "trimesh":
            raise ImportError("no", name="trimesh")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"trimesh.*cryoseg\[measure\]"):
        require_mesh_libraries()
