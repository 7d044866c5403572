"""A trained 3D detector with its settings: grid, scale and threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cryoseg.config.cet_pick import Arch, CetPickConfig, Specimen, ZPool
from cryoseg.config.pick import ThicknessAxis
from cryoseg.config.setting import restore
from cryoseg.core.grids.resample import Slices
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.core.grids.working_grid import WorkingGrid, normalize_volume, plan_grid
from cryoseg.core.picking.calibration import Calibration
from cryoseg.core.picking.detection import above_floor, local_maxima, refine_centers, suppress_nonmaxima
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.methods.cet_pick import network as cet_pick
from cryoseg.methods.cet_pick.inference import BlockShape, score_volume
from cryoseg.methods.model_file import load_strict, read_model_metadata, read_model_tensors, write_model_file
from cryoseg.types import FloatArray

METHOD = "cet-pick"
CANDIDATE_LOGIT = -6.0  # lower peaks are ignored
RIDGE_LOGIT = -3.0  # lower points of a ridge are ignored
RIDGE_SPACING = 0.15  # distance of points of a ridge before their centers are refined, in filament widths
CENTER_REACH = 0.5  # half side of the window whose center of mass is a pick, in particle diameters
# Smallest distance of two picks in particle diameters; a filament needs more points than a globule.
MIN_DISTANCE = {Specimen.GLOBULAR: 0.5, Specimen.FILAMENT: 0.25}


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """Settings of a detector, which its model file contains.

    Attributes
    ----------
    arch, specimen, particle_diameter_angstrom, z_compression, z_pool
        Settings of `CetPickConfig`.
    voxel_size
        (z, y, x) size in angstrom of a voxel of the working grid, before z is compressed.
    score_threshold
        Threshold in [0, 1], chosen on the training tomograms.
    score_slope, score_intercept
        Calibration of scores: the sigmoid of slope * logit + intercept. Files of older versions have none.
    thickness_axis
        Axis of the thickness in the files of the training tomograms.
    """

    arch: Arch
    specimen: Specimen
    particle_diameter_angstrom: float
    voxel_size: tuple[float, float, float]
    z_compression: int
    z_pool: ZPool
    score_threshold: float = 0.5
    score_slope: float = 1.0
    score_intercept: float = 0.0
    thickness_axis: ThicknessAxis = ThicknessAxis.Z

    def scores(self, logits: FloatArray) -> FloatArray:
        """Return the calibrated scores in [0, 1] of logits of any shape."""
        return Calibration(slope=self.score_slope, intercept=self.score_intercept)(logits)

    def grid(self, shape: tuple[int, int, int], voxel_size: tuple[float, float, float]) -> WorkingGrid:
        """Return the working grid of a tomogram of this shape and voxel size, (z, y, x) in angstrom."""
        scale = tuple(ours / theirs for ours, theirs in zip(self.voxel_size, voxel_size, strict=True))
        return plan_grid(
            shape,
            scale=(scale[0], scale[1], scale[2]),
            z_compression=self.z_compression,
            maximum=self.z_pool is ZPool.MAX,
        )


def settings_for(config: CetPickConfig, voxel_size: tuple[float, float, float]) -> DetectorSettings:
    """Return the settings of a detector for tomograms of this voxel size, (z, y, x) in angstrom."""
    wanted = config.particle_diameter_angstrom / config.grid.diameter_px if config.grid.diameter_px else 0.0
    working = tuple(max(size, wanted) for size in voxel_size)
    return DetectorSettings(
        arch=config.arch,
        specimen=config.specimen,
        particle_diameter_angstrom=config.particle_diameter_angstrom,
        voxel_size=(working[0], working[1], working[2]),
        z_compression=config.grid.z_compression,
        z_pool=config.grid.z_pool,
    )


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """Scores of a detector for a whole tomogram.

    Attributes
    ----------
    logits
        (z, y / 2, x / 2) logits on the working grid.
    grid, voxel_size
        Working grid, with the map from it to the tomogram, and (z, y, x) voxel size of the tomogram in
        angstrom.
    """

    logits: FloatArray
    grid: WorkingGrid
    voxel_size: tuple[float, float, float]

    @property
    def cell_voxels(self) -> NDArray[np.float64]:
        """Number of tomogram voxels per cell, (z, y, x)."""
        return self.grid.scale * cet_pick.STRIDES

    def candidates(
        self, *, diameter_angstrom: float, min_distance_angstrom: float, ridge: bool = False
    ) -> tuple[NDArray[np.float64], FloatArray]:
        """Find all peaks, of which no two are closer than `min_distance_angstrom`.

        Parameters
        ----------
        diameter_angstrom
            Diameter of a particle, which sets the window for the refinement of its center.
        min_distance_angstrom
            Smallest distance of two peaks.
        ridge
            Whether to return points along ridges, which have few maxima; for filaments.

        Returns
        -------
        tuple
            (n, 3) centers z, y, x in tomogram voxels and (n,) logits, in descending order.
        """
        cell = self.cell_voxels * self.voxel_size
        if ridge:
            peaks = above_floor(self.logits, floor=RIDGE_LOGIT)
            thin = suppress_nonmaxima(
                peaks * cell, self.logits[tuple(peaks.T)], min_distance=RIDGE_SPACING * diameter_angstrom
            )
            peaks = peaks[thin]
        else:
            peaks = local_maxima(self.logits, floor=CANDIDATE_LOGIT)
        reach = CENTER_REACH * diameter_angstrom / cell
        probabilities = (1 / (1 + np.exp(-self.logits))).astype(np.float32)
        centers = refine_centers(probabilities, peaks, reach=(reach[0], reach[1], reach[2]))
        centers = self.grid.to_source(centers * cet_pick.STRIDES)
        logits = self.logits[tuple(peaks.T)]
        kept = suppress_nonmaxima(
            centers * np.asarray(self.voxel_size), logits, min_distance=min_distance_angstrom
        )
        return centers[kept], logits[kept]

    def near(self, points: NDArray[np.float64], *, radius_angstrom: float) -> NDArray[np.float64]:
        """Return the highest logit, (n,), in a box around each of (n, 3) points in tomogram voxels."""
        cells = self.grid.to_working(points) / cet_pick.STRIDES
        half = radius_angstrom / (self.cell_voxels * self.voxel_size)
        size = np.asarray(self.logits.shape)
        found = np.empty(len(points))
        for number, center in enumerate(cells):
            low = np.clip(np.round(center - half).astype(int), 0, size - 1)
            high = np.clip(np.round(center + half).astype(int), 0, size - 1) + 1
            found[number] = self.logits[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].max()
        return found


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A network in evaluation mode on `device`, with its settings."""

    network: nn.Module
    settings: DetectorSettings
    device: torch.device

    def score(
        self,
        volume: Slices,
        voxel_size: tuple[float, float, float],
        *,
        symmetric: bool = True,
        blocks: BlockShape | None = None,
        intensity: IntensityMap | None = None,
        on_block: Callable[[int, int], None] | None = None,
    ) -> ScoreMap:
        """Compute the heat map of a tomogram.

        Parameters
        ----------
        volume
            (z, y, x) grey values, all finite.
        voxel_size
            (z, y, x) voxel size in angstrom.
        symmetric, blocks, on_block
            Parameters of `score_volume`.
        intensity
            Normalization on the working grid; None to compute it from the volume.
        """
        shape = (int(volume.shape[0]), int(volume.shape[1]), int(volume.shape[2]))
        grid = self.settings.grid(shape, voxel_size)
        logits = score_volume(
            self.network,
            normalize_volume(volume, grid, intensity=intensity),
            device=self.device,
            symmetric=symmetric,
            blocks=blocks,
            on_block=on_block,
        )
        return ScoreMap(logits=logits, grid=grid, voxel_size=voxel_size)


def save_detector(
    path: Path, weights: Mapping[str, torch.Tensor], settings: DetectorSettings, card: Mapping[str, Any]
) -> str:
    """Write a packaged model with a `card` about its training, and return its SHA-256."""
    config = ("arch", "specimen", "particle_diameter_angstrom", "z_compression", "z_pool", "thickness_axis")
    metadata = {
        "method": METHOD,
        "config": {name: getattr(settings, name) for name in config},
        "preprocessing": {"normalize": "robust", "voxel_size": list(settings.voxel_size)},
        "score_threshold": settings.score_threshold,
        "score_calibration": {"slope": settings.score_slope, "intercept": settings.score_intercept},
        "card": dict(card),
    }
    return write_model_file(path, weights, metadata)


def read_settings(path: Path) -> DetectorSettings:
    """Read the settings of a packaged detector without its weights."""
    metadata = read_model_metadata(path)
    if metadata["method"] != METHOD:
        raise WeightsError(
            f"{path}: is a model for {metadata['method']}, which does not pick particles in tomograms. "
            "Train one with `cryoseg train cet-pick`."
        )
    try:
        known = {one.name for one in fields(DetectorSettings)}
        values = {name: value for name, value in metadata["config"].items() if name in known}
        values["voxel_size"] = metadata["preprocessing"]["voxel_size"]
        values["score_threshold"] = metadata["score_threshold"]
        calibration = metadata.get("score_calibration", {})
        values |= {f"score_{name}": number for name, number in calibration.items()}
        return restore(DetectorSettings, values, source="config")
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise WeightsError(
            f"{path}: its metadata lack a setting of CET-pick ({error}); train again."
        ) from None


def load_detector(path: Path, device: torch.device) -> Detector:
    """Load a packaged detector, whose tensors must fit its architecture."""
    settings = read_settings(path)
    network = cet_pick.build(settings.arch)
    load_strict(network, read_model_tensors(path), path)
    return Detector(network=network.to(device).eval(), settings=settings, device=device)
