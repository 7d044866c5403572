"""Compare the shapes of two masks: distances of surfaces, centerlines, and the orientation of membranes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from cryoseg.core.masks.postprocess import MOST_THREADS
from cryoseg.core.metrics.overlap import ratio
from cryoseg.machine import processors
from cryoseg.types import BoolArray

_CHUNK = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SurfaceScore:
    """Symmetric comparison of the surfaces of prediction and truth.

    If both surfaces are empty, surface Dice is 1 and the distances are NaN. If one is empty, surface Dice is
    0 and the distances are infinite.

    Attributes
    ----------
    tolerances
        Tolerances in `unit`, as all distances.
    dice
        Share of the surface voxels of both masks within each tolerance of the other surface.
    mean_distance
        Average symmetric surface distance over the surface voxels of both masks.
    hausdorff_95
        Larger one of the two 95th percentiles of the distances.
    pred_voxels, truth_voxels
        Numbers of compared surface voxels.
    unit
        Unit of distances, "A" or "vox".
    """

    tolerances: tuple[float, ...]
    dice: tuple[float, ...]
    mean_distance: float
    hausdorff_95: float
    pred_voxels: int
    truth_voxels: int
    unit: str = "vox"


def compare_surfaces(
    pred: BoolArray,
    truth: BoolArray,
    known: BoolArray,
    *,
    tolerances: tuple[float, ...],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    unit: str = "vox",
) -> SurfaceScore:
    """Compare the surfaces of two masks.

    A surface voxel has a face neighbor outside the mask or outside the volume. Distances are measured between
    voxel centers. Surface voxels without a known truth are not compared, but predicted ones among them are
    neighbors of the true surface.

    Parameters
    ----------
    pred, truth, known
        (z, y, x) masks.
    tolerances
        Tolerances in the unit of `spacing`.
    spacing
        (z, y, x) voxel size in angstrom, or 1 for distances in voxels.
    unit
        Unit for the result, "A" or "vox".


    Notes
    -----
    Source: Nikolov et al. 2021, surface Dice. Surface voxels are counted without their areas, as in MONAI.
    """
    pred_points, pred_known = _surface_points(pred, known)
    truth_points, _ = _surface_points(truth, known)
    compared = pred_points[pred_known]
    count = len(compared) + len(truth_points)
    mean = hausdorff = float("inf" if count else "nan")
    dice = tuple(0.0 if count else 1.0 for _ in tolerances)
    if len(compared) and len(truth_points):
        distances = _nearest(compared, truth_points, spacing), _nearest(truth_points, pred_points, spacing)
        mean = float(sum(part.sum(dtype=np.float64) for part in distances) / count)
        hausdorff = float(max(np.percentile(part, 95) for part in distances))
        # The tolerance allows for rounding errors of distances such as 3 x 13.48.
        dice = tuple(
            sum(int(np.count_nonzero(part <= limit * (1 + 1e-6))) for part in distances) / count
            for limit in tolerances
        )
    return SurfaceScore(
        tolerances=tolerances,
        dice=dice,
        mean_distance=mean,
        hausdorff_95=hausdorff,
        pred_voxels=len(compared),
        truth_voxels=len(truth_points),
        unit=unit,
    )


def _surface_points(mask: BoolArray, known: BoolArray) -> tuple[NDArray[np.int32], BoolArray]:
    """Return (n, 3) surface voxels in scan order, and whether the truth is known at each."""
    points, is_known = [np.empty((0, 3), np.int32)], [np.empty(0, np.bool_)]
    for z, surface in _surface_slices(mask):
        y, x = np.nonzero(surface)
        if len(y):
            points.append(np.stack([np.full(len(y), z), y, x], axis=1).astype(np.int32))
            is_known.append(known[z][y, x])
    return np.concatenate(points), np.concatenate(is_known)


def _surface_slices(mask: BoolArray) -> Iterator[tuple[int, BoolArray]]:
    for z, image in enumerate(mask):
        if not image.any():
            continue
        inside = image.copy()
        inside[1:] &= image[:-1]
        inside[:-1] &= image[1:]
        inside[:, 1:] &= image[:, :-1]
        inside[:, :-1] &= image[:, 1:]
        inside[[0, -1]] = False
        inside[:, [0, -1]] = False
        if 0 < z < len(mask) - 1:
            inside &= mask[z - 1] & mask[z + 1]
        else:
            inside[:] = False
        yield z, image & ~inside


def _nearest(
    points: NDArray[np.int32], others: NDArray[np.int32], spacing: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return the (n,) distances from `points` to the nearest of `others`."""
    # Common voxels of both surfaces have a distance of 0 and need no query.
    distances = np.zeros(len(points), np.float32)
    queried = np.flatnonzero(~np.isin(_keys(points), _keys(others)))
    if not len(queried):
        return distances
    tree = KDTree(others * np.asarray(spacing), balanced_tree=False, compact_nodes=False)
    for start in range(0, len(queried), _CHUNK):
        chunk = queried[start : start + _CHUNK]
        distances[chunk] = tree.query(points[chunk] * np.asarray(spacing), workers=-1)[0]
    return distances


def _keys(points: NDArray[np.int32]) -> NDArray[np.int64]:
    # Each coordinate takes 21 bits, which suffice for two million slices.
    wide = points.astype(np.int64)
    return (wide[:, 0] << 42) | (wide[:, 1] << 21) | wide[:, 2]


@dataclass(frozen=True, kw_only=True)
class CenterlineScore:
    """Numbers of skeleton pixels of both masks with a known truth, and of those inside the other mask."""

    pred_pixels: int
    pred_inside: int
    truth_pixels: int
    truth_inside: int

    @property
    def precision(self) -> float:
        """Topology precision; NaN without a predicted skeleton."""
        return ratio(self.pred_inside, self.pred_pixels)

    @property
    def sensitivity(self) -> float:
        """Topology sensitivity; NaN without a true skeleton."""
        return ratio(self.truth_inside, self.truth_pixels)

    @property
    def cldice(self) -> float:
        """Harmonic mean of precision and sensitivity; 1 if both skeletons are empty, 0 if one is."""
        if self.pred_pixels == self.truth_pixels == 0:
            return 1.0
        if self.pred_pixels == 0 or self.truth_pixels == 0:
            return 0.0
        total = self.precision + self.sensitivity
        return 2 * self.precision * self.sensitivity / total if total else 0.0


def compare_centerlines(pred: BoolArray, truth: BoolArray, known: BoolArray) -> CenterlineScore:
    """Compare the skeleton of each mask with the other mask in every z slice of (z, y, x) masks.

    Membranes are sheets in 3D, which have no meaningful curve skeleton. Therefore the slices are skeletonized
    and the counts of all slices are added.

    Source: Shit et al. 2021, clDice.
    """

    def count(z: int) -> tuple[int, int, int, int]:
        pred_skeleton: BoolArray = skeletonize(pred[z]) & known[z]  # type: ignore[no-untyped-call]
        truth_skeleton: BoolArray = skeletonize(truth[z]) & known[z]  # type: ignore[no-untyped-call]
        return (
            int(np.count_nonzero(pred_skeleton)),
            int(np.count_nonzero(pred_skeleton & truth[z])),
            int(np.count_nonzero(truth_skeleton)),
            int(np.count_nonzero(truth_skeleton & pred[z])),
        )

    with ThreadPoolExecutor(min(processors(), MOST_THREADS)) as pool:
        sums = [sum(column) for column in zip(*pool.map(count, range(len(pred))), strict=True)]
    return CenterlineScore(
        pred_pixels=sums[0], pred_inside=sums[1], truth_pixels=sums[2], truth_inside=sums[3]
    )


# Neighbors of a voxel to whose positions a plane is fitted, which gives the normal.
# Source: jianlin-cheng/ETSAM evaluation/evaluate_etsam_theta_wise.py@58e8df8.
NEIGHBORS = 30
# A membrane is 3 to 6 voxels thick, so that its 30 nearest voxels form a ball without a normal. After
# thinning to one voxel in 15 they form a disc with a radius of about 6 voxels.
THINNING = 15
LARGEST_SAMPLE = 100_000


@dataclass(frozen=True, kw_only=True)
class ThetaBin:
    """Sampled voxels with an angle from `low_deg` to `high_deg` between membrane normal and beam.

    Attributes
    ----------
    truth, truth_found
        Number of such voxels of the truth, and of those in the prediction.
    pred, pred_right
        Number of such voxels of the prediction, and of those in the truth.
    """

    low_deg: float
    high_deg: float
    truth: int
    truth_found: int
    pred: int
    pred_right: int

    @property
    def recall(self) -> float:
        """Recall by the normals of the truth; NaN if there are none at this angle."""
        return ratio(self.truth_found, self.truth)

    @property
    def precision(self) -> float:
        """Precision by the normals of the prediction; NaN if there are none at this angle."""
        return ratio(self.pred_right, self.pred)

    @property
    def dice(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 0.0 if total == 0 else 2 * self.precision * self.recall / total

    @property
    def iou(self) -> float:
        """Intersection over union that corresponds to `dice`."""
        return self.dice / (2 - self.dice)


def measure_theta(
    pred: BoolArray,
    truth: BoolArray,
    known: BoolArray,
    *,
    edges_deg: tuple[float, ...] = (0.0, 30.0, 60.0, 90.0),
    seed: int = 0,
) -> tuple[ThetaBin, ...]:
    """Compute recall and precision by the orientation of membranes, one bin for each pair of edges.

    At 0 degrees the normal is parallel to the beam: the membrane is parallel to the slice and is affected by
    the missing wedge. At 90 degrees the membrane is perpendicular to the slice. At most 100,000 voxels of
    each mask are sampled.

    Parameters
    ----------
    pred, truth, known
        (z, y, x) masks; voxels without a known truth do not count.
    edges_deg
        Edges of the bins in degrees, ascending from 0 to 90; the last bin includes its upper edge.
    seed
        Seed of the random sample.

    Source: ETSAM's theta-wise evaluation, with normals of a thinned cloud instead of all voxels.
    """
    truth_theta, truth_found = _sampled_angles(truth, pred, known, seed)
    pred_theta, pred_right = _sampled_angles(pred, truth, known, seed + 1)
    bins = []
    for low, high in itertools.pairwise(edges_deg):
        last = high == edges_deg[-1]
        of_truth = (truth_theta >= low) & ((truth_theta < high) | last)
        of_pred = (pred_theta >= low) & ((pred_theta < high) | last)
        bins.append(
            ThetaBin(
                low_deg=low,
                high_deg=high,
                truth=int(of_truth.sum()),
                truth_found=int(truth_found[of_truth].sum()),
                pred=int(of_pred.sum()),
                pred_right=int(pred_right[of_pred].sum()),
            )
        )
    return tuple(bins)


def normal_angles(
    mask: BoolArray, points: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the (n,) angles in degrees between z and the normal of a mask at (n, 3) points z, y, x.

    The normal is the direction of the smallest variance of the nearest voxels of the mask.
    """
    cloud = _sample(mask, max(NEIGHBORS, int(np.count_nonzero(mask)) // THINNING), rng)
    angles = np.full(len(points), np.nan)
    if len(cloud) < 3 or not len(points):
        return angles
    tree = KDTree(cloud)
    for start in range(0, len(points), 20_000):
        chunk = points[start : start + 20_000]
        _, nearest = tree.query(chunk, k=min(NEIGHBORS, len(cloud)), workers=-1)
        around = cloud[nearest].astype(np.float64)
        around -= around.mean(axis=1, keepdims=True)
        _, vectors = np.linalg.eigh(np.einsum("nki,nkj->nij", around, around))
        along_z = np.clip(np.abs(vectors[:, 0, 0]), 0, 1)
        angles[start : start + len(chunk)] = np.degrees(np.arccos(along_z))
    return angles


def _sampled_angles(
    mask: BoolArray, other: BoolArray, known: BoolArray, seed: int
) -> tuple[NDArray[np.float64], BoolArray]:
    rng = np.random.default_rng(seed)
    points = _sample(mask, LARGEST_SAMPLE, rng)
    points = points[known[tuple(points.T)]]
    return normal_angles(mask, points, rng), other[tuple(points.T)]


def _sample(mask: BoolArray, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw about `count` voxels of a mask, or all if there are fewer, as (n, 3) indices."""
    total = int(np.count_nonzero(mask))
    points = [np.empty((0, 3), np.int64)]
    for z, image in enumerate(mask):
        flat = np.flatnonzero(image)
        if count < total:
            flat = flat[rng.random(len(flat)) < count / total]
        y, x = np.divmod(flat, image.shape[1])
        points.append(np.stack([np.full(len(flat), z), y, x], axis=1))
    return np.concatenate(points)
