"""Overlap by the angle between the membrane normal and the beam."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryoseg.core.metrics.overlap import ratio, require_one_shape
from cryoseg.types import BoolArray

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
    """Compute recall and precision by the orientation of membranes.

    At 0 degrees the normal is parallel to the beam: the membrane is parallel to the slice and is affected by
    the missing wedge. At 90 degrees the membrane is perpendicular to the slice. At most 100,000 voxels of
    each mask are sampled.

    Parameters
    ----------
    pred, truth, known
        (z, y, x) masks; voxels without a known truth do not count.
    edges_deg
        Edges of the bins in degrees, ascending from 0 to 90.
    seed
        Seed of the random sample.

    Returns
    -------
    tuple of ThetaBin
        One bin for each pair of edges; the last bin includes its upper edge.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    Source: ETSAM's theta-wise evaluation, with normals of a thinned cloud instead of all voxels.
    """
    require_one_shape(pred, truth, known)
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
