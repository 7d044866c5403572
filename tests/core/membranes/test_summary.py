"""Objects of volumes, and their figures in nanometers."""

import numpy as np
import pytest

from cryoseg.core.membranes.midsurface import mid_surface
from cryoseg.core.membranes.objects import fill_lumens, find_objects, mid_lines
from cryoseg.core.membranes.summary import in_missing_wedge, measure, quartiles
from cryoseg.errors import InputError


@pytest.fixture
def two_objects(shell):
    """A shell of radius 12, and a plate of 3 x 5 x 6 voxels at the border."""
    mask = np.zeros((44, 44, 60), bool)
    mask[:, :, :44] = shell(12, 4)
    mask[:3, 10:15, 50:56] = True
    return mask


def test_components_are_numbered_by_size_and_have_boxes_and_centers(two_objects):
    objects = find_objects(two_objects)
    assert len(objects) == 2
    assert objects.voxels[1] == 90
    assert objects.boxes[1] == (slice(0, 3), slice(10, 15), slice(50, 56))
    assert objects.centroids[1] == pytest.approx([1, 12, 52.5])
    assert not objects.touches_border(1)
    assert objects.touches_border(2)
    assert (objects.labels == 2).sum() == 90


def test_small_components_are_left_out(two_objects):
    assert len(find_objects(two_objects, min_voxels=91)) == 1
    assert len(find_objects(two_objects, min_voxels=90)) == 2
    assert len(find_objects(two_objects, min_slices=4)) == 1


def test_each_label_is_one_object_even_in_two_parts():
    labels = np.zeros((6, 6, 6), np.int16)
    labels[0, 0, :2] = labels[5, 5, 5] = 40
    labels[2, 2, 2] = 7
    labels[3, 3, 3] = -1  # not annotated
    objects = find_objects(labels)
    assert objects.voxels.tolist() == [3, 1]
    assert objects.labels[5, 5, 5] == 1
    assert objects.labels[3, 3, 3] == 0


def test_nothing_gives_no_object():
    objects = find_objects(np.zeros((4, 5, 6), bool))
    assert len(objects) == 0
    assert list(objects.masks()) == []


def test_the_figures_of_a_sphere_are_those_of_geometry(two_objects):
    objects = find_objects(two_objects)
    number, box, mask = next(objects.masks())
    corner = [part.start for part in box]
    surface = mid_surface(mask, 10.0, corner=corner, shape=objects.labels.shape, component=number)
    found = measure(objects, 1, surface, voxel_size=10.0, tilt_range=(-60, 60))
    radius = 12  # nm, as a voxel has 1 nm
    assert found.is_closed
    assert found.volume == pytest.approx(4 / 3 * np.pi * (14**3 - 10**3), rel=0.01)
    assert found.area == pytest.approx(4 * np.pi * radius**2, rel=0.02)
    assert found.enclosed_volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.015)
    assert found.diameter == pytest.approx(2 * radius, rel=0.01)
    assert found.curvature_diameter == pytest.approx(2 * radius, rel=0.02)
    assert found.sphericity == pytest.approx(1, abs=0.01)
    assert found.thickness == pytest.approx(4, abs=0.3)
    assert found.mean_curvature.median == pytest.approx(1 / radius, rel=0.05)
    assert found.gaussian_curvature.mean == pytest.approx(1 / radius**2, rel=0.05)
    assert found.bending_energy == pytest.approx(8 * np.pi, rel=0.05)
    assert found.centroid == pytest.approx((21.6, 21.6, 21.6), abs=0.1)
    # A wedge of 60 of 180 degrees about y holds a third of all directions.
    assert found.wedge_share == pytest.approx(1 / 3, abs=0.02)


def test_a_component_that_is_no_sheet_has_volume_and_place_only(two_objects):
    found = measure(find_objects(two_objects), 2, None, voxel_size=20.0, tilt_range=(-60, 60))
    assert found.volume == pytest.approx(90 * 8)
    assert found.extent == (6, 10, 12)
    assert found.touches_border
    assert not found.is_sheet
    assert np.isnan(found.area)
    assert np.isnan(found.mean_curvature.mean)


def test_the_wedge_holds_normals_that_no_tilt_samples():
    normals = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [-1, 0, 1], [2, 0, 1]], float)
    normals /= np.linalg.norm(normals, axis=1)[:, None]
    assert in_missing_wedge(normals, (-60, 60)).tolist() == [True, False, False, False, False, True]
    assert in_missing_wedge(normals, (-40, 60)).tolist() == [True, False, False, False, True, True]


def test_quartiles_are_weighted():
    found = quartiles(np.array([1.0, 2.0, 10.0]), np.array([1.0, 1.0, 6.0]))
    assert found.mean == pytest.approx(63 / 8)
    assert (found.q25, found.median, found.q75) == (2, 10, 10)


def test_the_lumen_of_closed_membranes_is_the_second_label(shell):
    objects = find_objects(shell(10, 3, size=30, center=14.5))
    filled = fill_lumens(objects, [1])
    assert filled[14, 14, 14] == 2
    assert filled[0, 0, 0] == 0
    assert ((filled == 1) == (objects.labels == 1)).all()
    assert (fill_lumens(objects, []) == 2).sum() == 0


def test_the_mid_line_is_thin_and_in_the_middle(shell):
    mask = shell(10, 4, size=30, center=14.5)
    surface = mid_surface(mask, 7.0)
    line = mid_lines([surface], mask.shape, 7.0)
    distance = np.linalg.norm(np.argwhere(line) - 14.5, axis=1)
    assert np.abs(distance - 10).max() < 1.1
    # About 3/2 voxels per square voxel of a smooth surface.
    assert line.sum() == pytest.approx(1.5 * 4 * np.pi * 100, rel=0.25)


def test_objects_are_kept_and_dropped_by_number(two_objects):
    objects = find_objects(two_objects)
    small = objects.chosen(drop=[1])
    assert small.voxels.tolist() == [90]
    np.testing.assert_array_equal(small.labels, objects.labels == 2)
    assert objects.chosen(keep=[2]).centroids.tolist() == small.centroids.tolist()
    assert len(objects.chosen()) == 2
    assert len(objects.chosen(drop=[1, 2])) == 0
    with pytest.raises(InputError, match="has 2 components, and none with the number 3"):
        objects.chosen(keep=[1, 3])
