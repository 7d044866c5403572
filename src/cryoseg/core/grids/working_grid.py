"""Convert volumes and coordinates between a tomogram and the coarser grid of a 3D detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import ThicknessAxis
from cryoseg.core.grids.blank import find_blank
from cryoseg.core.grids.resample import Resampled, Slices, rescale_points
from cryoseg.core.grids.robust import FilledSlices, IntensityMap, robust_map
from cryoseg.types import BoolArray, FloatArray

STATISTICS_SLICES = 48
# A tomogram is not resampled if the scales differ by less than this: the blur of the interpolation would
# harm the detection more than a particle that is two percent too large.
SAME_SCALE = 0.02
THIN = 2  # A volume is thin along y if z and x are at least so many times longer.


def thin_along_y(shape: tuple[int, ...]) -> str | None:
    """Say that a (z, y, x) volume is much thinner along y than along z and x; None if it is not."""
    z, y, x = shape
    if THIN * y > min(z, x):
        return None
    return f"has {y} voxels along y and {z} along z, as reconstructions of IMOD before their rotation"


@dataclass(frozen=True, kw_only=True)
class WorkingGrid:
    """The grid of a tomogram and the working grid over the same extent.

    Attributes
    ----------
    source_shape
        (z, y, x) shape of the tomogram.
    shape
        (z, y, x) shape of the working grid.
    pool
        Number of neighboring slices that are reduced to their maximum after resampling; 1 disables it.
    """

    source_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    pool: int = 1

    @property
    def scale(self) -> NDArray[np.float64]:
        """Tomogram voxels per working voxel, (z, y, x)."""
        resampled = np.asarray(self.shape) * np.array([self.pool, 1, 1])
        scale = np.asarray(self.source_shape) / resampled
        if self.pool > 1:  # An incomplete last group of slices must not change the scale of the others.
            scale[0] = self.pool * self.source_shape[0] / self.depth_before_pool
        return np.asarray(scale, dtype=np.float64)

    @property
    def depth_before_pool(self) -> int:
        """Number of slices before pooling: that of the tomogram unless z is resampled too."""
        depth, pooled = self.source_shape[0], self.shape[0]
        return depth if -(-depth // self.pool) == pooled else pooled * self.pool

    def to_working(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert (n, 3) z, y, x voxels of the tomogram to voxels of the working grid."""
        return np.asarray((points + 0.5) / self.scale - 0.5)

    def to_source(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Convert (n, 3) z, y, x voxels of the working grid to voxels of the tomogram."""
        return rescale_points(points, self.scale)


def plan_grid(
    source_shape: tuple[int, int, int],
    *,
    scale: tuple[float, float, float],
    z_compression: int = 1,
    maximum: bool = False,
) -> WorkingGrid:
    """Return the working grid of a tomogram of (z, y, x) shape `source_shape`.

    Parameters
    ----------
    source_shape, scale
        Shape of the tomogram, and (z, y, x) size of a working voxel before the compression in z, in voxels of
        the tomogram.
    z_compression, maximum
        Number of slices that are combined into one, and whether by their maximum instead of their mean.
    """
    near_one = [1.0 if abs(s - 1) <= SAME_SCALE else s for s in scale]
    sizes = [max(1, round(n / s)) for n, s in zip(source_shape, near_one, strict=True)]
    pool = z_compression if maximum else 1
    sizes[0] = -(-sizes[0] // z_compression)
    return WorkingGrid(source_shape=source_shape, shape=(sizes[0], sizes[1], sizes[2]), pool=pool)


class WorkingVolume:
    """A (z, y, x) tomogram on its working grid from `plan_grid`, computed one slice at a time."""

    def __init__(self, volume: Slices, grid: WorkingGrid) -> None:
        self.shape = grid.shape
        before_pool = (grid.depth_before_pool, *grid.shape[1:])
        self._pool = grid.pool
        self._slices: Slices = volume if before_pool == volume.shape else Resampled(volume, before_pool)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, z: int) -> FloatArray:
        """Return slice `z`, (y, x) float32."""
        if self._pool == 1:
            return np.asarray(self._slices[z], dtype=np.float32)
        first = z * self._pool
        members = range(first, min(first + self._pool, len(self._slices)))
        joined: FloatArray = np.max([np.asarray(self._slices[k], dtype=np.float32) for k in members], axis=0)
        return joined

    def load(self, begin: int = 0, end: int | None = None) -> FloatArray:
        """Return the slices from `begin` to `end` - 1, (z, y, x) float32."""
        end = self.shape[0] if end is None else end
        return np.stack([self[z] for z in range(begin, end)])

    def sample(self) -> FloatArray:
        """Return evenly spaced slices for statistics, (n, y, x) float32."""
        count = min(STATISTICS_SLICES, self.shape[0])
        picked = np.unique(np.linspace(0, self.shape[0] - 1, count).round().astype(int))
        return np.stack([self[int(z)] for z in picked])


@dataclass(frozen=True, kw_only=True)
class NormalizedVolume:
    """A tomogram on its working grid with its normalization.

    Attributes
    ----------
    slices
        Grey values, in which blank voxels have the median of the signal.
    intensity
        Map from grey values to the input of the network.
    blank
        (z, y, x) array on the working grid, True where there is no signal; None if there is signal
        everywhere.
    """

    slices: WorkingVolume
    intensity: IntensityMap
    blank: BoolArray | None


def normalize_volume(
    volume: Slices, grid: WorkingGrid, *, intensity: IntensityMap | None = None
) -> NormalizedVolume:
    """Resample a (z, y, x) tomogram to its working grid and normalize it without blank regions.

    `intensity` is the normalization; None computes it from the volume.
    """
    slices, blank = WorkingVolume(volume, grid), find_blank(volume)
    if blank is None:
        return NormalizedVolume(slices=slices, intensity=intensity or robust_map(slices.sample()), blank=None)
    hidden = WorkingVolume(blank, grid)
    if intensity is None:
        intensity = robust_map(slices.sample(), blank=hidden.sample() >= 0.5)
    filled = WorkingVolume(FilledSlices(volume, blank, intensity.center), grid)
    return NormalizedVolume(slices=filled, intensity=intensity, blank=hidden.load() >= 0.5)


def model_shape(
    shape: tuple[int, ...], pixel_size: float, limits: tuple[float, float]
) -> tuple[int, int, int]:
    """Return the (z, y, x) shape of a volume after resampling to the pixel sizes that a model accepts.

    `limits` are the smallest and largest pixel size of the model in angstrom; a volume within them keeps its
    shape.
    """
    target = min(max(pixel_size, limits[0]), limits[1])
    z, y, x = (max(1, round(n * pixel_size / target)) for n in shape)
    return z, y, x


# Axes of the file in the order of the network, which processes the volume along its thin axis.
ORDERS = {ThicknessAxis.Z: (0, 1, 2), ThicknessAxis.Y: (1, 0, 2), ThicknessAxis.X: (2, 0, 1)}


def thin_first(volume: NDArray[Any], axis: ThicknessAxis) -> NDArray[Any]:
    """Return a view of a (z, y, x) volume with its thin axis first."""
    return volume.transpose(ORDERS[axis])


def thin_back(volume: NDArray[Any], axis: ThicknessAxis) -> NDArray[Any]:
    """Return a (z, y, x) view of a volume from `thin_first`."""
    return volume.transpose(np.argsort(ORDERS[axis]))


def points_thin_first(points: NDArray[np.float64], axis: ThicknessAxis) -> NDArray[np.float64]:
    """Return (n, 3) z, y, x points of the file in the axis order of `thin_first`."""
    return points[:, list(ORDERS[axis])]


def points_thin_back(points: NDArray[np.float64], axis: ThicknessAxis) -> NDArray[np.float64]:
    """Return (n, 3) points from `points_thin_first` in the z, y, x order of the file."""
    return points[:, np.argsort(ORDERS[axis])]


def triple_thin_first(values: tuple[float, float, float], axis: ThicknessAxis) -> tuple[float, float, float]:
    """Return a (z, y, x) triple, such as a voxel size, in the axis order of `thin_first`."""
    first, second, third = (values[index] for index in ORDERS[axis])
    return first, second, third
