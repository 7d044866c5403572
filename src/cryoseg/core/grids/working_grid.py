"""The coarser grid on which a 3D detector works, and exact coordinates to and from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import ThicknessAxis
from cryoseg.core.blank import FilledSlices, find_blank
from cryoseg.core.grids.resample import Resampled, Slices
from cryoseg.core.robust import IntensityMap, robust_map
from cryoseg.types import BoolArray, FloatArray

STATISTICS_SLICES = 48
# A grid that differs from the tomogram's by less than this is the tomogram's: blurring it by
# interpolation would cost more than a particle two percent too large.
SAME_SCALE = 0.02


@dataclass(frozen=True, kw_only=True)
class WorkingGrid:
    """Two grids over the same extent.

    Attributes
    ----------
    source_shape
        (z, y, x) of the tomogram.
    shape
        (z, y, x) of the working grid.
    pool
        Neighboring slices joined into one by their maximum, after resampling; 1 for none.
    """

    source_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    pool: int = 1

    @property
    def scale(self) -> NDArray[np.float64]:
        """Tomogram voxels per working voxel, (z, y, x)."""
        resampled = np.asarray(self.shape) * np.array([self.pool, 1, 1])
        scale = np.asarray(self.source_shape) / resampled
        if self.pool > 1:  # an odd last slice stands alone, and must not stretch the others
            depth = pooled_depth(self.source_shape[0], self.pool, self.shape[0])
            scale[0] = self.pool * self.source_shape[0] / depth
        return np.asarray(scale, dtype=np.float64)

    def to_working(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) z, y, x of the tomogram to the working grid; voxel centers at whole numbers."""
        return np.asarray((points + 0.5) / self.scale - 0.5)

    def to_source(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, 3) z, y, x of the working grid to the tomogram."""
        return np.asarray((points + 0.5) * self.scale - 0.5)


def pooled_depth(source_depth: int, pool: int, depth: int) -> int:
    """Slices before pooling; those of the tomogram unless it was resampled in z too."""
    return source_depth if -(-source_depth // pool) == depth else depth * pool


def plan_grid(
    source_shape: tuple[int, int, int],
    *,
    scale: tuple[float, float, float],
    z_compression: int = 1,
    maximum: bool = False,
) -> WorkingGrid:
    """The working grid of a tomogram.

    Parameters
    ----------
    source_shape
        (z, y, x).
    scale
        Wanted size of a working voxel, in voxels of the tomogram, before z is compressed.
    z_compression
        Slices joined into one.
    maximum
        Join by the maximum instead of the mean.
    """
    near_one = [1.0 if abs(s - 1) <= SAME_SCALE else s for s in scale]
    sizes = [max(1, round(n / s)) for n, s in zip(source_shape, near_one, strict=True)]
    pool = z_compression if maximum else 1
    sizes[0] = -(-sizes[0] // z_compression)
    return WorkingGrid(source_shape=source_shape, shape=(sizes[0], sizes[1], sizes[2]), pool=pool)


class WorkingVolume:
    """A tomogram on its working grid, one slice at a time.

    Parameters
    ----------
    volume
        (z, y, x), an array or anything read by slices.
    grid
        From `plan_grid`.
    """

    def __init__(self, volume: Slices, grid: WorkingGrid) -> None:
        self.shape = grid.shape
        depth = pooled_depth(grid.source_shape[0], grid.pool, grid.shape[0])
        before_pool = (depth, *grid.shape[1:])
        self._pool = grid.pool
        self._slices: Slices = volume if before_pool == volume.shape else Resampled(volume, before_pool)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, z: int) -> FloatArray:
        """(y, x) float32."""
        if self._pool == 1:
            return np.asarray(self._slices[z], dtype=np.float32)
        first = z * self._pool
        members = range(first, min(first + self._pool, len(self._slices)))
        joined: FloatArray = np.max([np.asarray(self._slices[k], dtype=np.float32) for k in members], axis=0)
        return joined

    def load(self, begin: int = 0, end: int | None = None) -> FloatArray:
        """(z, y, x) float32 of a run of slices."""
        end = self.shape[0] if end is None else end
        return np.stack([self[z] for z in range(begin, end)])

    def sample(self) -> FloatArray:
        """(n, y, x) float32 slices spread evenly over the volume, for statistics."""
        count = min(STATISTICS_SLICES, self.shape[0])
        picked = np.unique(np.linspace(0, self.shape[0] - 1, count).round().astype(int))
        return np.stack([self[int(z)] for z in picked])


@dataclass(frozen=True, kw_only=True)
class NormalizedVolume:
    """A tomogram on its working grid, and how it is normalized.

    Attributes
    ----------
    slices
        Grey values; blank voxels have the median of the signal.
    intensity
        Map to what the network sees.
    blank
        (z, y, x) of the working grid, True where there is no signal; None if there is signal everywhere.
    """

    slices: WorkingVolume
    intensity: IntensityMap
    blank: BoolArray | None


def normalize_volume(
    volume: Slices, grid: WorkingGrid, *, intensity: IntensityMap | None = None
) -> NormalizedVolume:
    """Bring a tomogram to its working grid and leave its blank regions out of the statistics.

    Parameters
    ----------
    volume
        (z, y, x), finite.
    grid
        From `plan_grid`.
    intensity
        Computed from the volume if None.
    """
    slices, blank = WorkingVolume(volume, grid), find_blank(volume)
    if blank is None:
        return NormalizedVolume(slices=slices, intensity=intensity or robust_map(slices.sample()), blank=None)
    hidden = WorkingVolume(blank, grid)
    if intensity is None:
        where = hidden.sample() >= 0.5
        intensity = robust_map(slices.sample(), blank=None if where.all() else where)
    filled = WorkingVolume(FilledSlices(volume, blank, intensity.center), grid)
    return NormalizedVolume(slices=filled, intensity=intensity, blank=hidden.load() >= 0.5)


def model_shape(
    shape: tuple[int, ...], pixel_size: float, limits: tuple[float, float]
) -> tuple[int, int, int]:
    """The grid on which the network sees a volume: its own, or one at the nearest end of `limits`.

    Parameters
    ----------
    shape
        (z, y, x) of the volume.
    pixel_size
        In angstrom.
    limits
        (lowest, highest) pixel size of the model, in angstrom.
    """
    target = min(max(pixel_size, limits[0]), limits[1])
    z, y, x = (max(1, round(n * pixel_size / target)) for n in shape)
    return z, y, x


# Axes of the file, in the order in which a slice-wise network wants them.
ORDERS = {ThicknessAxis.Z: (0, 1, 2), ThicknessAxis.Y: (1, 0, 2), ThicknessAxis.X: (2, 0, 1)}


def thin_first(volume: NDArray[Any], axis: ThicknessAxis) -> NDArray[Any]:
    """A view of a (z, y, x) volume with its thin axis first."""
    return volume.transpose(ORDERS[axis])


def thin_back(volume: NDArray[Any], axis: ThicknessAxis) -> NDArray[Any]:
    """Undo `thin_first`: a view in (z, y, x)."""
    return volume.transpose(np.argsort(ORDERS[axis]))


def points_thin_first(points: NDArray[np.float64], axis: ThicknessAxis) -> NDArray[np.float64]:
    """(n, 3) z, y, x of the file in the order of `thin_first`."""
    return points[:, list(ORDERS[axis])]


def points_thin_back(points: NDArray[np.float64], axis: ThicknessAxis) -> NDArray[np.float64]:
    """Undo `points_thin_first`: (n, 3) z, y, x of the file."""
    return points[:, np.argsort(ORDERS[axis])]


def triple_thin_first(values: tuple[float, float, float], axis: ThicknessAxis) -> tuple[float, float, float]:
    """A (z, y, x) triple, such as a voxel size, in the order of `thin_first`."""
    first, second, third = (values[index] for index in ORDERS[axis])
    return first, second, third
