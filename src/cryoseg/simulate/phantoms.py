"""Simulate simple tomograms with exactly known particles for tests of detectors.

Particles are balls or shells, and the microscope adds white noise and a missing wedge. The settings add
difficulties: noise, crowding, particles of another size that must not be picked, membranes and gold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import PickFormat
from cryoseg.config.simulate import Body, PhantomConfig
from cryoseg.io.images.mrc import write_mrc
from cryoseg.io.images.volumes import made_by
from cryoseg.io.inputs import stem
from cryoseg.io.picks.picks import write_picks
from cryoseg.types import FloatArray, Geometry, Picks

SHELL_ANGSTROM = 25.0
BILAYER_ANGSTROM = 45.0
GOLD_DIAMETER_ANGSTROM = 100.0
GOLD_CONTRAST = 6.0  # Contrast of gold relative to a particle.
MEMBRANE_CONTRAST = 1.0
MAX_PLACEMENT_TRIES = 200


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A simulated tomogram with its truth.

    Attributes
    ----------
    data
        (z, y, x) float32 volume in which particles are dark.
    centers, distractors
        (n, 3) centers z, y, x of the particles to pick, and (m, 3) of those that must not be picked, in
        voxels; whole numbers are voxel centers.
    """

    data: FloatArray
    centers: NDArray[np.float64]
    distractors: NDArray[np.float64]


def _ball(distance: FloatArray, radius: float) -> FloatArray:
    """Return 1 inside and 0 outside a ball, with a linear edge of one voxel."""
    return np.asarray(np.clip(radius + 0.5 - distance, 0, 1), np.float32)


def _stamp(volume: FloatArray, center: NDArray[np.float64], radius: float, body: Body, wall: float) -> None:
    low = np.maximum(np.floor(center - radius - 2).astype(int), 0)
    high = np.minimum(np.ceil(center + radius + 3).astype(int), volume.shape)
    if (high <= low).any():
        return
    z, y, x = np.ogrid[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    distance = np.sqrt((z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2).astype(np.float32)
    shape = _ball(distance, radius)
    if body is Body.HOLLOW:
        shape -= _ball(distance, radius - wall)
    region = volume[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    np.maximum(region, shape, out=region)


def _place(
    rng: np.random.Generator, config: PhantomConfig, diameters: NDArray[np.float64], blocked: FloatArray
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw centers of particles without overlap; return (n, 3) centers and (n,) diameters in voxels."""
    centers: list[NDArray[np.float64]] = []
    sizes: list[float] = []
    shape = np.asarray(config.shape)
    for diameter in diameters:
        margin = min(diameter / 2, float(shape.min()) / 2 - 1)
        for _ in range(MAX_PLACEMENT_TRIES):
            center = rng.uniform(margin, shape - 1 - margin)
            if centers:
                gaps = np.linalg.norm(np.asarray(centers) - center, axis=1)
                if (gaps < config.spacing * (np.asarray(sizes) + diameter) / 2).any():
                    continue
            if blocked[tuple(np.round(center).astype(int))] < diameter / 2:
                continue
            centers.append(center)
            sizes.append(float(diameter))
            break
    return np.asarray(centers).reshape(-1, 3), np.asarray(sizes)


def _membranes(rng: np.random.Generator, config: PhantomConfig) -> tuple[FloatArray, FloatArray]:
    """Return the density of vesicle membranes in the volume and the distance of each voxel to them."""
    shape = np.asarray(config.shape)
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    density = np.zeros(config.shape, np.float32)
    nearest = np.full(config.shape, np.inf, np.float32)
    half = BILAYER_ANGSTROM / config.voxel_size / 2
    for _ in range(config.membranes):
        radius = rng.uniform(0.2, 0.5) * float(shape[1:].min())
        c = rng.uniform(0, shape - 1)
        distance = np.sqrt((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2).astype(np.float32)
        distance = np.abs(distance - np.float32(radius))
        np.maximum(density, MEMBRANE_CONTRAST * np.clip(half + 0.5 - distance, 0, 1), out=density)
        np.minimum(nearest, distance, out=nearest)
    return density, nearest


def _missing_wedge(shape: tuple[int, int, int], tilt_degrees: float) -> NDArray[np.bool_]:
    """Return the mask of the half spectrum that tilts about y up to `tilt_degrees` measure."""
    kz = np.fft.fftfreq(shape[0])[:, None, None]
    kx = np.fft.rfftfreq(shape[2])[None, None, :]
    measured = np.abs(kz) <= np.abs(kx) * np.tan(np.deg2rad(tilt_degrees)) + 1e-12
    return np.broadcast_to(measured, (shape[0], shape[1], shape[2] // 2 + 1))


def make_phantom(config: PhantomConfig, index: int = 0) -> Phantom:
    """Simulate phantom number `index` of a configuration and its seed."""
    rng = np.random.default_rng([config.seed, index])
    voxel = config.voxel_size
    membranes, distance = _membranes(rng, config)
    wanted = rng.choice(config.diameters_angstrom, config.count) / voxel
    other = np.full(
        config.distractors if config.distractor_diameter_angstrom else 0,
        (config.distractor_diameter_angstrom or 0.0) / voxel,
    )
    diameters = np.concatenate([wanted, other])
    is_wanted = np.arange(len(diameters)) < len(wanted)
    order = rng.permutation(len(diameters))
    # The last particles may find no space, so the two kinds are placed in random order.
    centers, sizes = _place(rng, config, diameters[order], distance)
    flags = is_wanted[order][: len(centers)]
    if len(centers) < len(order):
        flags = np.array([np.isclose(size, wanted).any() for size in sizes], dtype=bool)

    signal = membranes
    for center, size in zip(centers, sizes, strict=True):
        _stamp(signal, center, size / 2, config.body, SHELL_ANGSTROM / voxel)
    gold = np.zeros(config.shape, np.float32)
    for center in rng.uniform(0, np.asarray(config.shape) - 1, (config.gold, 3)):
        _stamp(gold, center, GOLD_DIAMETER_ANGSTROM / voxel / 2, Body.SOLID, 0.0)

    wedge = _missing_wedge(config.shape, config.tilt_degrees)

    def image(volume: FloatArray) -> FloatArray:
        filtered = np.fft.irfftn(np.fft.rfftn(volume) * wedge, s=config.shape, axes=(0, 1, 2))
        return filtered.astype(np.float32)

    clean = image(signal)
    volume = clean + GOLD_CONTRAST * image(gold) if config.gold else clean
    if config.snr is not None:
        noise = image(rng.standard_normal(config.shape, dtype=np.float32))
        volume = volume + noise * np.float32(np.sqrt(clean.var() / config.snr) / noise.std())
    return Phantom(data=-volume, centers=centers[flags], distractors=centers[~flags])


def output_endings(config: PhantomConfig) -> dict[str, str]:
    """Return the endings of the output names of one phantom by kind, the image first."""
    endings = {"image": "_micrograph.mrc" if config.projection else "_tomogram.mrc", "truth": "_truth.csv"}
    return endings | ({"labels": "_labels.csv"} if config.labels else {})


def make(config: PhantomConfig, index: int, outputs: Mapping[str, Path]) -> dict[str, Any]:
    """Simulate phantom `index`, write its files and return the truth for its record."""
    phantom = make_phantom(config, index)
    data, centers = phantom.data, phantom.centers
    if config.projection:
        data, centers = data.sum(axis=0, keepdims=True), centers[:, 1:]
    geometry, label = Geometry(voxel_size=(config.voxel_size,) * 3), made_by("simulate phantoms")
    write_mrc(outputs["image"], data, geometry, dtype="float32", label=label)
    name = stem(outputs["image"])
    write_picks(outputs["truth"], {name: Picks(centers=centers)}, flavor=PickFormat.CSV)
    if "labels" in outputs:
        labels = Picks(centers=centers[: config.labels])
        write_picks(outputs["labels"], {name: labels}, flavor=PickFormat.CSV)
    return {"particles": len(centers), "distractor_centers_zyx": phantom.distractors.round(4).tolist()}
