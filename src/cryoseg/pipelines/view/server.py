"""What the page of `cryoseg view` holds: small voxels, and the facts that its script needs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg import __version__
from cryoseg.config.view import ViewConfig
from cryoseg.core.grids.binning import (
    Factors,
    Greys,
    bin_mask,
    bin_volume,
    logit_step,
    quantize_logits,
    to_greys,
)
from cryoseg.core.grids.blank import signal_values
from cryoseg.errors import InputError
from cryoseg.io.images.mrc_output import build_header
from cryoseg.io.images.volumes import made_by
from cryoseg.io.inputs import stem
from cryoseg.types import Geometry, Picks, Tomogram
from cryoseg.view.volume_page import VolumePage

MARKED_SHARE = 0.25  # of a block; membranes are thin, and half a block would lose them
CONTRAST_PERCENTILES = (1.0, 99.0)
UNKNOWN_DENSITY = (0.0, -1.0, -2.0, -1.0)  # MRC2014's sign for statistics that nobody computed


@dataclass(frozen=True, kw_only=True)
class ViewSources:
    """The files of one page.

    Attributes
    ----------
    tomogram
        Volume, micrograph or picture.
    logits, mask, picks
        Of the same grid; None leaves them out.
    """

    tomogram: Path
    logits: Path | None = None
    mask: Path | None = None
    picks: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ViewMaterial:
    """What the files hold, at full size.

    Attributes
    ----------
    tomogram, logits, mask, picks
        On one grid; picks in three dimensions.
    threshold
        Where the slider begins.
    """

    tomogram: Tomogram
    logits: Tomogram | None
    mask: Tomogram | None
    picks: Picks | None
    threshold: float


def build_page(
    sources: ViewSources, material: ViewMaterial, config: ViewConfig, factors: Factors
) -> VolumePage:
    """Bin and quantize, and tell the page's script what it shows.

    Parameters
    ----------
    sources
        For names and commands.
    material
        What they hold.
    config
        Settings.
    factors
        Voxels of the file in one of the page, (z, y, x).

    Raises
    ------
    InputError
        If the diameter of picks is in angstrom and the voxel size is not known.
    """
    tomogram = material.tomogram
    geometry = tomogram.geometry
    size_z, size_y, size_x = (
        size * factor for size, factor in zip(geometry.voxel_size, factors, strict=True)
    )
    # Corners coincide, and the origin names the corner.
    page_geometry = replace(geometry, voxel_size=(size_z, size_y, size_x), start=(0, 0, 0))
    greys = to_greys(bin_volume(tomogram.data, factors))
    volumes: dict[str, Any] = {"tomogram": greys.data}
    blobs: dict[str, bytes] = {}
    logit_facts = step = None
    if material.logits is not None:
        assert sources.logits is not None
        binned = bin_volume(material.logits.data, factors)
        step = logit_step(binned)
        volumes["logits"] = quantize_logits(binned, step)
        blobs = _headers(greys.data.shape, page_geometry)
        name = stem(sources.logits)
        logit_facts = {
            "step": step,
            "threshold": material.threshold,
            "command": f"cryoseg postprocess {_quoted(sources.logits)}",
            "into": "-o filtered",
            "logitsName": f"{name}_binned.mrc",
            "maskName": f"{name}_binned_mask.mrc",
        }
    if material.mask is not None:
        marked = bin_mask(_Marked(material.mask), factors, share=MARKED_SHARE)
        volumes["mask"] = marked.view(np.uint8)
    facts = {
        "title": sources.tomogram.name,
        "made": f"cryoseg {__version__} view",
        "shape": greys.data.shape,
        "fileShape": tomogram.data.shape,
        "binning": factors,
        "voxelSize": geometry.voxel_size,
        "grey": {"low": greys.low, "step": greys.step},
        "contrast": _contrast(greys),
        "minSlices": min(config.min_slices, tomogram.data.shape[0]),
        "logits": logit_facts,
        "mask": None if sources.mask is None else {"name": sources.mask.name},
        "picks": _pick_facts(sources, material, config),
        "notes": _notes(material, factors, greys, step),
    }
    return VolumePage(title=f"{sources.tomogram.name} · cryoseg", facts=facts, volumes=volumes, blobs=blobs)


class _Marked:
    """A label volume, read slice by slice as 0 and 1."""

    def __init__(self, labels: Tomogram) -> None:
        self._labels = labels.data
        self.shape = labels.data.shape

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, z: int) -> Any:
        return self._labels[z] > 0


def _headers(shape: tuple[int, ...], geometry: Geometry) -> dict[str, bytes]:
    depth, height, width = shape
    label = made_by("view")
    return {
        f"{name}-header": build_header(
            (depth, height, width), mode=mode, geometry=geometry, density=UNKNOWN_DENSITY, label=label
        )
        for name, mode in (("logits", 2), ("mask", 0))
    }


def _contrast(greys: Greys) -> dict[str, int]:
    black, white = (round(float(v)) for v in np.percentile(signal_values(greys.data), CONTRAST_PERCENTILES))
    return {"black": black, "white": max(white, black + 1)}


def _pick_facts(sources: ViewSources, material: ViewMaterial, config: ViewConfig) -> dict[str, Any] | None:
    picks = material.picks
    if picks is None or sources.picks is None:
        return None
    sizes = material.tomogram.geometry.voxel_size
    diameter = [picks.diameter_px] * 3 if picks.diameter_px > 0 else None
    if config.pick_diameter_angstrom is not None:
        if min(sizes) <= 0:
            raise InputError(
                f"{sources.tomogram}: the header gives no voxel size, and --pick-diameter is in angstrom. "
                "Pass --pixel-size too."
            )
        diameter = [config.pick_diameter_angstrom / size for size in sizes]
    chosen = sources.picks.with_name(f"{stem(sources.picks, (sources.picks.suffix,))}_chosen.star")
    return {
        "centers": [[round(float(v), 3) for v in center] for center in picks.centers],
        "scores": None if picks.scores is None else [round(float(v), 6) for v in picks.scores],
        "diameter": diameter,
        "score": 0.0,
        "command": f"cryoseg convert {_quoted(sources.picks)} {_quoted(chosen)} "
        f"--tomogram {_quoted(sources.tomogram)}",
    }


def _notes(material: ViewMaterial, factors: Factors, greys: Greys, step: float | None) -> list[str]:
    shape = material.tomogram.data.shape
    size = " x ".join(str(n) for n in reversed(shape))
    if max(factors) == 1:
        notes = [f"Binning 1: the {size} voxels (x, y, z) of the file."]
    else:
        blocks = " x ".join(str(n) for n in reversed(factors))
        notes = [f"Binning {blocks} (x, y, z): means of blocks of the file's {size} voxels."]
    notes.append(f"Grey values in steps of {greys.step:.3g}; black and white in the file's units.")
    if step is not None:
        notes.append(
            f"Logits are quantized in steps of {step:g}, rounded up, so that a threshold that is a multiple "
            f"of the step marks what it would mark without rounding. Beyond {-128 * step:g} and "
            f"{127 * step:g} they are cut off."
        )
        if factors[0] > 1:
            notes.append(
                f"The minimum of slices counts the file's; this page divides it by {factors[0]}, rounded up."
            )
        if max(factors) > 1:
            notes.append("The command works on the whole file, where thin membranes are not averaged.")
    if material.mask is not None and max(factors) > 1:
        notes.append("The mask is marked where at least a quarter of a block is.")
    if 0.0 in material.tomogram.geometry.voxel_size:
        notes.append("The voxel size is not known, so that there is no scale.")
    else:
        notes.append("Positions count from 0 at the center of the first voxel.")
    return notes


def _quoted(path: Path) -> str:
    """For a shell, and safe where the name looks like an option."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
