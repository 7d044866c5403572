"""Simulated micrographs: images, labels and parameters from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.config.pick import PickFormat
from cryoseg.config.simulate import MicrographRecipe, PolarityOnDisk, SimulateMicrographsConfig
from cryoseg.core.grids.robust import robust_map
from cryoseg.core.picking.detection import suppress_nonmaxima
from cryoseg.io.images.mrc import write_mrc
from cryoseg.io.images.volumes import made_by
from cryoseg.io.picks.picks import write_picks
from cryoseg.simulate.fields import log_uniform
from cryoseg.simulate.micrograph_imaging import draw_micrograph_imaging, expose, finish
from cryoseg.simulate.micrograph_surroundings import Surroundings, draw_surroundings, plane_noise, sometimes
from cryoseg.simulate.micrograph_themes import EVERYTHING, Theme, draw_theme
from cryoseg.simulate.particle_shapes import Species, draw_species, project
from cryoseg.types import FloatArray, Geometry, Picks

MARGIN_PX = 48  # Margin that is cropped, because the Fourier transform is periodic.
LABEL_SHARE = 0.12  # Smallest labeled thickness as a share of the thickness of the particle.
LEAST_PARTICLES, MOST_PARTICLES = 15, 1500
BYTE_DEVIATION = 25.0  # Grey values per standard deviation in bytes.
EASY_KINDS = ("ring", "barrel", "dihedral")


@dataclass(frozen=True, kw_only=True)
class SimulatedMicrograph:
    """A simulated micrograph with its truth.

    Attributes
    ----------
    data
        (y, x) float32 image as written to the file.
    labels
        (y, x) int16 numbers of the particles; 0 is background. Numbers from 1 to n are those of `centers`,
        larger ones belong to particles whose center lies outside the image.
    centers
        (n, 2) positions y, x in pixels.
    pixel_size
        Pixel size in angstrom.
    record
        All parameters, ready for JSON.
    """

    data: FloatArray
    labels: NDArray[np.int16]
    centers: NDArray[np.float64]
    pixel_size: float
    record: dict[str, Any]


def simulate_micrograph(config: SimulateMicrographsConfig, index: int = 0) -> SimulatedMicrograph:
    """Simulate micrograph number `index` of a configuration and its seed."""
    rng = np.random.default_rng([config.seed, index])
    easy = config.recipe is MicrographRecipe.SAMPLE
    hard = config.recipe is MicrographRecipe.HARD
    name, theme = draw_theme(rng) if hard else ("", EVERYTHING)
    diameter_px = log_uniform(rng, *config.particle_diameter_px)
    diameter = log_uniform(rng, *config.particle_diameter)
    pixel_size = round(diameter / diameter_px, 3)
    y, x = (int(scipy.fft.next_fast_len(n + 2 * MARGIN_PX, real=True)) for n in config.shape)
    species = _draw_all_species(rng, diameter, diameter_px, theme, easy=easy)
    surroundings = draw_surroundings(rng, (y, x), pixel_size, diameter, easy=easy, chances=theme.chances)
    layout = _Canvas((y, x), pixel_size)
    centers = _place(rng, surroundings, diameter / pixel_size, theme, easy=easy)
    which = rng.choice(len(species), len(centers), p=[1.0] if len(species) == 1 else [0.8, 0.2])
    for number, (center, one) in enumerate(zip(centers, which, strict=True), start=1):
        strength = log_uniform(rng, theme.faintest, 1.0) if theme.faintest < 1 else 1.0
        layout.add(rng, species[one], center, number=number, strength=strength)
    debris = _add_debris(rng, layout, diameter, easy=easy)
    imaging = draw_micrograph_imaging(rng, config.recipe, config.shape)
    if hard:
        imaging = replace(
            imaging,
            detectability=theme.draw_detectability(rng),
            defocus=rng.uniform(*theme.defocus) if theme.defocus else imaging.defocus,
        )
    image, metrics = expose(
        rng, layout.thickness, surroundings, imaging, pixel_size=pixel_size, count=max(len(centers), 1)
    )
    inner = tuple(slice(MARGIN_PX, MARGIN_PX + n) for n in config.shape)
    data, stored = finish(rng, np.ascontiguousarray(image[inner]), imaging, diameter_px=diameter / pixel_size)
    if easy:
        data = _as_bytes(data)
    bright = config.polarity is PolarityOnDisk.BRIGHT or (
        config.polarity is PolarityOnDisk.BOTH and rng.random() < 0.5
    )
    if bright:
        data = np.float32(2 * float(np.median(data))) - data
    centers, labels = _labeled(centers, layout.labels, surroundings, inner, imaging.frame)
    record = {
        "pixel_size_angstrom": pixel_size,
        "particle_diameter_angstrom": diameter,
        "particle_diameter_px": diameter / pixel_size,
        "particles": len(centers),
        "species": [one.kind for one in species],
        "polarity": "bright" if bright else "dark",
        "surroundings": surroundings.record | debris,
        "imaging": {key: value for key, value in asdict(imaging).items() if key != "detectability"},
        "stored": stored,
        **metrics,
    }
    if hard:
        record["theme"] = name
    return SimulatedMicrograph(
        data=data, labels=labels, centers=centers, pixel_size=pixel_size, record=record
    )


def _as_bytes(data: FloatArray) -> FloatArray:
    """Scale an image to whole numbers that fit into signed bytes."""
    centered = robust_map(data)
    scaled = np.rint((data - centered.center) * (BYTE_DEVIATION / centered.spread))
    return np.asarray(np.clip(scaled, -127, 127), np.float32)


def _draw_all_species(
    rng: np.random.Generator, diameter: float, diameter_px: float, theme: Theme, *, easy: bool
) -> list[Species]:
    points = int(np.clip(1.2 * diameter_px**2, 1500, 7000))
    kinds = EASY_KINDS if easy else theme.kinds
    kind = str(rng.choice(kinds))
    species = [draw_species(rng, diameter=diameter, points=points, kind=kind, cavity=theme.cavity)]
    if not easy and rng.random() < theme.second:
        other = rng.uniform(0.7, 1.0) * diameter
        species.append(draw_species(rng, diameter=other, points=points))
    return species


class _Canvas:
    """Thickness of protein and labels of an image to which particles are added."""

    def __init__(self, shape: tuple[int, int], pixel_size: float) -> None:
        self.thickness = np.zeros(shape, np.float32)
        self.labels = np.zeros(shape, np.int16)
        self._owner = np.zeros(shape, np.float32)
        self._pixel_size = pixel_size

    def add(
        self,
        rng: np.random.Generator,
        species: Species,
        center: NDArray[np.float64],
        *,
        number: int = 0,
        strength: float = 1.0,
    ) -> None:
        """Add a molecule at (y, x) in pixels, its density times `strength`; number 0 adds no label."""
        sigma = max(0.6, 0.6 * species.spacing / self._pixel_size)
        margin = int(np.ceil(3 * sigma))
        place = (float(center[0]), float(center[1]))
        corner, patch = project(rng, species, center=place, pixel_size=self._pixel_size, margin_px=margin)
        patch = ndimage.gaussian_filter(patch, sigma, mode="constant", truncate=3.0)
        here, there = _overlap(corner, patch.shape, self.thickness.shape)
        self.thickness[there] += np.float32(strength) * patch[here]
        if number == 0:
            return
        share = patch / max(float(np.quantile(patch[patch > 0.02 * patch.max()], 0.8)), 1e-6)
        inside = ndimage.binary_fill_holes(share > LABEL_SHARE)
        claim = np.where(inside, np.maximum(share, LABEL_SHARE), 0)[here]
        wins = claim > self._owner[there]
        self._owner[there][wins] = claim[wins]
        self.labels[there][wins] = number


def _overlap(
    corner: tuple[int, int], size: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of a patch that lies in an image as slices of the patch and of the image."""
    here, there = [], []
    for first, length, extent in zip(corner, size, shape, strict=True):
        low, high = max(first, 0), max(min(first + length, extent), max(first, 0))
        there.append(slice(low, high))
        here.append(slice(low - first, high - first))
    return tuple(here), tuple(there)


def _place(
    rng: np.random.Generator, surroundings: Surroundings, diameter_px: float, theme: Theme, *, easy: bool
) -> NDArray[np.float64]:
    """Draw (n, 2) random positions y, x at a random density and minimum distance."""
    shape = surroundings.ice.shape
    least = float(np.clip(LEAST_PARTICLES * np.pi / 4 * diameter_px**2 / (shape[0] * shape[1]), 0.03, 0.4))
    low, high = theme.coverage
    coverage = 0.16 if easy else log_uniform(rng, max(least, low), high)
    distance = 1.05 if easy else rng.uniform(*theme.distance)
    wanted = coverage * shape[0] * shape[1] / (np.pi / 4 * diameter_px**2)
    tries = rng.uniform(-0.5, np.asarray(shape) - 0.5, (int(theme.tries * wanted) + 8, 2))
    index = tuple(np.clip(np.rint(tries).astype(int), 0, np.asarray(shape) - 1).T)
    # Ice of variable thickness and interfaces cause crowded and empty regions.
    coarse = (shape[0] // 8 + 2, shape[1] // 8 + 2)
    uneven = 0.0 if easy else rng.uniform(0.0, 0.8)
    crowd = 1 + uneven * plane_noise(rng, coarse, spacing_px=max(coarse) / rng.uniform(2.0, 7.0))
    weight = np.clip(crowd[index[0] // 8, index[1] // 8], 0.02, None)
    avoids_carbon = rng.random() < 0.7
    weight = np.where((surroundings.carbon[index] > 20.0) & avoids_carbon, 0.0, weight)
    kept = rng.random(len(tries)) < weight / max(float(weight.max()), 1e-6)
    tries = tries[kept]
    order = suppress_nonmaxima(
        tries, rng.random(len(tries)).astype(np.float32), min_distance=distance * diameter_px
    )
    return tries[order[: min(int(wanted) + 1, MOST_PARTICLES)]]


def _add_debris(rng: np.random.Generator, canvas: _Canvas, diameter: float, *, easy: bool) -> dict[str, int]:
    """Add fragments, aggregates and strands that are no particles; return their numbers."""
    shape = np.asarray(canvas.thickness.shape)
    fragments = 10 if easy else sometimes(rng, 0.65, 1, 40) + sometimes(rng, 0.35, 20, 160)
    kinds = [draw_species(rng, diameter=0.3 * diameter, points=500) for _ in range(3)]
    for _ in range(fragments):
        one = kinds[int(rng.integers(3))]
        canvas.add(rng, one, rng.uniform(0, shape))
    clumps = 0 if easy else sometimes(rng, 0.33, 1, 5)
    for _ in range(clumps):
        middle = rng.uniform(0, shape)
        spread = rng.uniform(0.3, 1.2) * diameter / canvas._pixel_size
        for _ in range(int(rng.integers(12, 60))):
            canvas.add(rng, kinds[int(rng.integers(3))], middle + spread * rng.standard_normal(2))
    strands = 0 if easy else sometimes(rng, 0.2, 1, 4)
    for _ in range(strands):
        _add_strand(rng, canvas)
    return {"fragments": fragments, "clumps": clumps, "strands": strands}


def _add_strand(rng: np.random.Generator, canvas: _Canvas) -> None:
    """Add a thin bent line, such as nucleic acid or a fiber."""
    shape = np.asarray(canvas.thickness.shape)
    step = 0.5
    n = int(shape.max() / step)
    turn = np.cumsum(rng.standard_normal(n) * 0.03 * np.sqrt(step)) + rng.uniform(0, 2 * np.pi)
    line = rng.uniform(0, shape) + step * np.cumsum(np.stack([np.sin(turn), np.cos(turn)], axis=1), axis=0)
    width = rng.uniform(10.0, 60.0)
    index = np.rint(line).astype(int)
    index = index[np.all((index >= 0) & (index < shape), axis=1)]
    trace = np.bincount(index[:, 0] * shape[1] + index[:, 1], minlength=int(shape.prod())).reshape(shape)
    sigma = max(0.6, 0.35 * width / canvas._pixel_size)
    # The volume of a strand per length is the area of its cross-section.
    area = np.pi / 4 * width**2 * step / canvas._pixel_size
    canvas.thickness += ndimage.gaussian_filter((trace * area).astype(np.float32), sigma, truncate=3.0)


def _labeled(
    centers: NDArray[np.float64],
    labels: NDArray[np.int16],
    surroundings: Surroundings,
    inner: tuple[slice, ...],
    frame: int,
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Return centers and labels of the visible particles in the cropped image, numbered from 1."""
    shape = np.asarray([part.stop - part.start for part in inner])
    index = tuple(np.clip(np.rint(centers).astype(int), 0, np.asarray(labels.shape) - 1).T)
    blocked = surroundings.blocked()
    moved = centers - MARGIN_PX
    within = np.all((moved >= frame) & (moved <= shape - 1 - frame), axis=1)
    good = ~blocked[index] & within
    # Particles whose center lies outside the image may extend into it; they have a label and no position.
    outside = ~blocked[index] & ~within
    table = np.zeros(len(centers) + 1, np.int16)
    table[1:][good] = np.arange(1, int(good.sum()) + 1)
    table[1:][outside] = int(good.sum()) + 1 + np.arange(int(outside.sum()))
    seen = table[labels[inner]]
    if frame:
        keep = np.zeros(seen.shape, bool)
        keep[frame:-frame, frame:-frame] = True
        seen[~keep] = 0
    return moved[good], np.ascontiguousarray(seen)


def output_endings(config: SimulateMicrographsConfig) -> dict[str, str]:
    """Return the endings of the output names of one micrograph by kind, the micrograph first."""
    return {"micrograph": "_micrograph.mrc", "labels": "_labels.mrc", "particles": "_particles.star"}


def make(config: SimulateMicrographsConfig, index: int, outputs: Mapping[str, Path]) -> dict[str, Any]:
    """Simulate micrograph `index`, write its files and return the parameters for its record."""
    simulated = simulate_micrograph(config, index)
    dtype = "int8" if config.recipe is MicrographRecipe.SAMPLE else "float32"
    geometry = Geometry(voxel_size=(simulated.pixel_size,) * 3, space_group=0)
    label = made_by("simulate micrographs")
    image = outputs["micrograph"]
    write_mrc(image, simulated.data[None].astype(dtype), geometry, dtype=dtype, label=label)
    write_mrc(outputs["labels"], simulated.labels[None], geometry, dtype="int16", label=label)
    picks = Picks(
        centers=simulated.centers, shape=simulated.data.shape, pixel_size=simulated.pixel_size, source=image
    )
    write_picks(outputs["particles"], {image.name: picks}, flavor=PickFormat.STAR)
    return simulated.record
