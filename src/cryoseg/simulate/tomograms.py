"""Simulated tomograms: images, labels and parameters from a seed."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from cryoseg.config.simulate import PolarityOnDisk, SimulateConfig, TomogramRecipe
from cryoseg.io.images.mrc import write_mrc
from cryoseg.io.images.volumes import made_by
from cryoseg.io.outputs import atomic_output
from cryoseg.simulate.fields import Grid, log_uniform
from cryoseg.simulate.imaging import (
    STORAGES,
    apply_filter,
    draw_filter,
    draw_imaging,
    image,
    scale_noise,
    store,
)
from cryoseg.simulate.scene import Kind
from cryoseg.simulate.specimen import Specimen, build_specimen
from cryoseg.types import BoolArray, FloatArray, Geometry

# Margin on each side that is cropped, because the Fourier transform is periodic.
MARGIN_PX = (8, 16, 16)
DISTRACTOR_FRACTION = 0.10
MIN_DISTRACTOR_KINDS = 3


@dataclass(frozen=True, kw_only=True)
class SimulatedTomogram:
    """A simulated tomogram with its truth.

    Attributes
    ----------
    data
        (z, y, x) volume as written to the file.
    labels
        (z, y, x) array, True within half a bilayer thickness of the mid-surface of a membrane.
    noise_free, noise
        (z, y, x) parts of the reconstruction before any filter, in which dense matter is bright. The ratio
        of their variances is the recorded SNR.
    voxel_size
        Voxel size in angstrom.
    record
        All parameters, ready for JSON.
    """

    data: NDArray[Any]
    labels: BoolArray
    noise_free: FloatArray
    noise: FloatArray
    voxel_size: float
    record: dict[str, Any]


def _margins(shape: tuple[int, int, int]) -> tuple[tuple[int, int], ...]:
    """Return the margins before and after each axis, which give a length with a fast Fourier transform."""
    pairs = []
    for n, margin in zip(shape, MARGIN_PX, strict=True):
        total = scipy.fft.next_fast_len(n + 2 * margin, real=True)
        pairs.append((margin, total - n - margin))
    return tuple(pairs)


def _distractor_fractions(kinds: NDArray[np.uint8]) -> dict[str, float]:
    counts = np.bincount(kinds.ravel(), minlength=256)
    values = np.arange(256)
    return {
        kind.name.lower(): float(counts[(values & kind) > 0].sum() / kinds.size)
        for kind in Kind
        if kind.name is not None
    }


def _specimen(
    rng: np.random.Generator, grid: Grid, inner: tuple[slice, ...], recipe: TomogramRecipe
) -> Specimen:
    """Draw a specimen with membranes in the field of view and, for `heldout`, enough distractors."""
    crowding = 1.0
    attempts = 0
    while True:
        attempts += 1
        specimen = build_specimen(rng, grid, recipe, crowding=crowding)
        labels = specimen.scene.label(specimen.thickness)[inner]
        kinds = specimen.scene.kinds[inner]
        fractions = _distractor_fractions(kinds)
        present = sum(value > 0.002 for value in fractions.values())
        enough = recipe is not TomogramRecipe.HELDOUT or (
            float(np.mean(kinds > 0)) > DISTRACTOR_FRACTION and present >= MIN_DISTRACTOR_KINDS
        )
        if (enough and labels.mean() > 0.003) or attempts == 12:
            break
        crowding *= 1.2
    specimen.record["attempts"] = attempts
    specimen.record["crowding"] = crowding
    return specimen


def simulate_tomogram(config: SimulateConfig, index: int = 0) -> SimulatedTomogram:
    """Simulate tomogram number `index` of a configuration and its seed."""
    rng = np.random.default_rng([config.seed, index])
    voxel_size = round(log_uniform(rng, *config.pixel_size_range), 2)
    margins = _margins(config.shape)
    padded = tuple(n + sum(pair) for n, pair in zip(config.shape, margins, strict=True))
    grid = Grid(shape=(padded[0], padded[1], padded[2]), voxel_size=voxel_size)
    inner = tuple(slice(pair[0], pair[0] + n) for n, pair in zip(config.shape, margins, strict=True))

    specimen = _specimen(rng, grid, inner, config.recipe)
    scene = specimen.scene
    imaging = draw_imaging(rng, config.recipe)
    noise_free, noise = (
        np.ascontiguousarray(part[inner])
        for part in image(rng, scene.density, voxel_size=voxel_size, imaging=imaging)
    )
    noise_free = noise_free - noise_free.mean(dtype=np.float64).astype(np.float32)
    snr = log_uniform(rng, *config.snr_range)
    noise = scale_noise(noise_free, noise, snr)

    filter_name, strength = draw_filter(rng, config.recipe)
    seen, seen_noise = apply_filter(noise_free, noise, filter_name, strength)
    polarity = config.polarity.value
    if config.polarity is PolarityOnDisk.BOTH:
        polarity = str(rng.choice([PolarityOnDisk.DARK.value, PolarityOnDisk.BRIGHT.value]))
    sign = np.float32(-1.0 if polarity == PolarityOnDisk.DARK.value else 1.0)
    storage = (
        "int8" if config.recipe is TomogramRecipe.SAMPLE else str(rng.choice(STORAGES, p=[0.4, 0.4, 0.2]))
    )
    data, scaling = store(rng, sign * (seen + seen_noise), storage)

    labels = np.ascontiguousarray(scene.label(specimen.thickness)[inner])
    kinds = scene.kinds[inner]
    noise_std = max(float(seen_noise.std(dtype=np.float64)), 1e-12)
    contrast = float(seen[labels].mean() - seen[~labels].mean()) / noise_std if labels.any() else 0.0
    power = float(np.mean(np.square(seen[labels]))) / noise_std**2 if labels.any() else 0.0
    record = {
        "voxel_size_angstrom": voxel_size,
        "snr": snr,
        "snr_after_filter": float(seen.var(dtype=np.float64)) / noise_std**2,
        "membrane_contrast_to_noise": contrast,
        "membrane_power_to_noise": power,
        "membrane_fraction": float(labels.mean()),
        "label_thickness_angstrom": specimen.thickness,
        "distractor_fractions": _distractor_fractions(kinds),
        "distractor_fraction": float(np.mean(kinds > 0)),
        "polarity": polarity,
        "storage": {"type": storage, **scaling},
        "filter": {"name": filter_name, "strength": strength},
        "specimen": specimen.record,
        "imaging": asdict(imaging),
    }
    return SimulatedTomogram(
        data=data, labels=labels, noise_free=noise_free, noise=noise, voxel_size=voxel_size, record=record
    )


def output_endings(config: SimulateConfig) -> dict[str, str]:
    """Return the endings of the output names of one volume by kind, the tomogram first."""
    return {"tomogram": "_tomogram.mrc", "labels": "_labels.mrc.gz"}


def make(config: SimulateConfig, index: int, outputs: Mapping[str, Path]) -> dict[str, Any]:
    """Simulate tomogram `index`, write its files and return the parameters for its record."""
    simulated = simulate_tomogram(config, index)
    geometry = Geometry(voxel_size=(simulated.voxel_size,) * 3)
    label = made_by("simulate tomograms")
    write_mrc(outputs["tomogram"], simulated.data, geometry, dtype=str(simulated.data.dtype), label=label)
    with atomic_output(outputs["labels"]) as temporary:
        plain = temporary.with_name(f"{temporary.name}.mrc")
        try:
            write_mrc(plain, simulated.labels.astype(np.int8), geometry, dtype="int8", label=label)
            # The gzip header contains no time, so that equal labels give equal files.
            temporary.write_bytes(gzip.compress(plain.read_bytes(), compresslevel=6, mtime=0))
        finally:
            plain.unlink(missing_ok=True)
    return simulated.record
