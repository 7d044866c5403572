"""Compare spectra and grey values of simulated micrographs with those of the real ones.

    python benchmarks/particle_spectra.py DATA SIMULATED [--picture FILE.png]

DATA as in `specimens.py`, packed or not; SIMULATED is a folder of `cryoseg simulate micrographs`. All images
are as the network sees them, with 24 pixels per particle. A spectrum is the mean power in rings, relative to
the mean of all rings, as a logarithm to base 10. The contrast is the difference of the means of background
and particles, and the ratio that of their standard deviations; both are relative to the background's
deviation. The picture shows the center of real micrographs in its first row, and simulated ones below it.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats
from specimens import PACKED_PX, SPECIMENS, TEST, fields_of

from cryoseg.methods.particles.data import MicrographPair, ReadOptions, find_micrographs, load_micrograph
from cryoseg.methods.particles.samples import TrainingMicrograph

RINGS = np.array([0.24, 0.48, 0.72, 1.08, 1.56, 2.16, 3.0, 4.2, 6.0, 8.4, 12.0])  # cycles per diameter
GREY_NAMES = ("skewness", "kurtosis", "contrast", "ratio")
CORE = 0.6  # diameter of the discs that count as particle, in diameters
SIDE, COLUMNS = 300, 4  # of the picture


def spectrum(grey: np.ndarray) -> np.ndarray:
    """Mean power in the rings, as a logarithm."""
    side = min(grey.shape)
    image = grey[:side, :side]
    power = np.abs(np.fft.fft2((image - image.mean()) * np.outer(np.hanning(side), np.hanning(side)))) ** 2
    axis = np.fft.fftfreq(side) * PACKED_PX
    radius = np.hypot(axis[:, None], axis)
    rings = [(radius >= low) & (radius < high) for low, high in itertools.pairwise(RINGS)]
    return np.log10([power[ring].mean() / power[np.any(rings, axis=0)].mean() for ring in rings])


def grey_values(micrograph: TrainingMicrograph) -> np.ndarray:
    """Numbers of `GREY_NAMES`."""
    grey = micrograph.grey.astype(float)
    inside, outside = grey[micrograph.labels > 0], grey[micrograph.labels == 0]
    contrast = (outside.mean() - inside.mean()) / outside.std()
    return np.array(
        [stats.skew(grey, axis=None), stats.kurtosis(grey, axis=None), contrast, inside.std() / outside.std()]
    )


def center(micrograph: TrainingMicrograph) -> np.ndarray:
    """Center of an image in grey values of a picture."""
    grey = micrograph.grey.astype(float)
    corner = [max(0, (n - SIDE) // 2) for n in grey.shape]
    part = grey[corner[0] : corner[0] + SIDE, corner[1] : corner[1] + SIDE]
    padded = np.pad(part, [(0, SIDE - n) for n in part.shape])
    return np.clip(padded * 32 + 128, 0, 255).astype(np.uint8)


def row(name: str, values: np.ndarray) -> None:
    """Print a row of the table."""
    print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |")


def main() -> None:
    """Print the tables, and draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("simulated", type=Path)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    options = ReadOptions(particle_pixels=PACKED_PX, core=CORE)
    groups: dict[str, list[TrainingMicrograph]] = {}
    for one in SPECIMENS:
        for field in fields_of(arguments.data, one):
            if field.role != TEST:
                pair = MicrographPair(
                    name=field.name,
                    image=field.image,
                    centers=field.centers,
                    diameter_px=field.specimen.visible_px,
                    border_px=field.specimen.margin_px,
                )
                groups.setdefault(one.name, []).append(load_micrograph(pair, options)[0])
    simulated = [
        load_micrograph(pair, options)[0] for pair in find_micrographs([str(arguments.simulated)])[0]
    ]
    for kind, measure in (("spectrum", lambda one: spectrum(one.grey.astype(float))), ("grey", grey_values)):
        heads = [f"{value:g}" for value in RINGS[1:]] if kind == "spectrum" else GREY_NAMES
        print(f"\n| {kind} | " + " | ".join(heads) + " |\n|---" + "|---" * len(heads) + "|")
        for name, micrographs in groups.items():
            row(name, np.mean([measure(one) for one in micrographs], axis=0))
        found = [measure(one) for one in simulated]
        for quantile in (5, 50, 95):
            row(f"simulated, {quantile} %", np.percentile(found, quantile, axis=0))
    if arguments.picture:
        shown = [micrographs[0] for micrographs in groups.values()]
        tiles = [center(one) for one in shown] + [np.zeros((SIDE, SIDE), np.uint8)] * (COLUMNS - len(shown))
        tiles += [center(one) for one in simulated[: 3 * COLUMNS]]
        rows = [np.hstack(tiles[k : k + COLUMNS]) for k in range(0, len(tiles) - COLUMNS + 1, COLUMNS)]
        Image.fromarray(np.vstack(rows)).save(arguments.picture)


if __name__ == "__main__":
    main()
