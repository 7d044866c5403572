"""Simulated pictures of pigmented skin lesions with exact masks: a domain that is not cryo-EM.

They look like pictures taken through a dermatoscope, as far as a segmentation network cares, and are
no model of any disease. Lengths are in pixels, colors in grey values of 0 to 255.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.config.simulate_lesions import SimulateLesionsConfig
from cryoseg.io.images.pictures import PictureRow, Split, write_picture, write_picture_list
from cryoseg.io.outputs import make_folder
from cryoseg.simulate.micrograph_surroundings import plane_noise, sometimes
from cryoseg.simulate.records import begin_record, finished_record, write_record
from cryoseg.types import BoolArray, FloatArray

LIST = "lesions.csv"
# Of five pictures in a row three train, one chooses, one judges, whatever their number.
SPLITS = (Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.VAL, Split.TEST)
LIGHT_SKIN, DARK_SKIN = np.array([236.0, 192.0, 170.0]), np.array([134.0, 88.0, 66.0])
# How much of red, green and blue a unit of pigment takes: brown melanin, a blue veil, red blood.
PIGMENTS = {
    "brown": np.array([0.75, 1.0, 1.05]),
    "blue": np.array([1.15, 0.85, 0.55]),
    "red": np.array([0.25, 0.95, 0.85]),
}
HARMONICS = 7  # of the border's radius
LEAST_SHARE = 0.01  # of the picture that every lesion covers


@dataclass(frozen=True, kw_only=True)
class SimulatedLesion:
    """One picture.

    Attributes
    ----------
    rgb
        (y, x, 3), 8 bit.
    mask
        (y, x), True in the lesion, under hairs too and not outside of the field of view.
    record
        Every parameter.
    """

    rgb: NDArray[np.uint8]
    mask: BoolArray
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LesionOutcome:
    """One picture of a folder; `made` is False for one that was there already."""

    row: PictureRow
    made: bool
    seconds: float
    record: dict[str, Any]


def simulate_lesion(config: SimulateLesionsConfig, index: int = 0) -> SimulatedLesion:
    """Picture `index` of a configuration; the same one whenever it is asked for.

    Parameters
    ----------
    config
        Shape and seed.
    index
        Number of the picture under the seed.
    """
    rng = np.random.default_rng([config.seed, index])
    shape, side = config.shape, min(config.shape)
    field, field_record = _field_of_view(rng, shape)
    whole, lesion_record = _lesion(rng, shape, field)
    mask = whole & field
    color, skin_record = _skin(rng, shape)
    color = _pigmented(rng, color, _depth(whole), side, lesion_record)
    color, hairs = _hairs(rng, color, side)
    color, glints = _glints(rng, color, side)
    distance = np.hypot(*_centered(shape)) / (0.5 * float(np.hypot(*shape)))
    falloff = float(rng.uniform(0.0, 0.35))
    color *= (1 - falloff * distance**2)[..., None]
    blur, noise = float(rng.uniform(0.4, 1.0)), float(rng.uniform(1.0, 4.0))
    edge = ndimage.gaussian_filter(field.astype(np.float32), float(rng.uniform(0.5, 2.0)))
    color = ndimage.gaussian_filter(color * edge[..., None], (blur, blur, 0))
    color += noise * rng.standard_normal(color.shape, dtype=np.float32) * (0.2 + 0.8 * edge[..., None])
    record = {
        **begin_record("lesions", config, index),
        "lesion_share": float(mask.mean()),
        **field_record,
        **skin_record,
        **lesion_record,
        "hairs": hairs,
        "glints": glints,
        "falloff": falloff,
        "blur_px": blur,
        "noise": noise,
    }
    return SimulatedLesion(rgb=np.rint(color).clip(0, 255).astype(np.uint8), mask=mask, record=record)


def _centered(shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """Distances (n, 1) down and (1, m) right from the middle of the picture."""
    y, x = (np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2) for n in shape)
    return y[:, None], x[None, :]


def _field_of_view(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[BoolArray, dict[str, Any]]:
    """Three pictures in five show the black rim of the dermatoscope."""
    if rng.random() < 0.4:
        return np.ones(shape, bool), {"field_radius_px": None}
    y, x = _centered(shape)
    radius = float(rng.uniform(0.46, 0.62)) * float(np.sqrt(shape[0] * shape[1]))
    middle = rng.uniform(-0.03, 0.03, 2) * min(shape)
    return np.hypot(y - middle[0], x - middle[1]) < radius, {"field_radius_px": radius}


def _lesion(
    rng: np.random.Generator, shape: tuple[int, int], field: BoolArray
) -> tuple[BoolArray, dict[str, Any]]:
    """(y, x), True in a lesion of one piece without holes."""
    side = min(shape)
    y, x = _centered(shape)
    mask = np.zeros(shape, bool)
    radius = 0.0
    middle = np.zeros(2)
    while (mask & field).mean() < LEAST_SHARE:
        radius = float(np.exp(rng.uniform(np.log(0.12), np.log(0.36)))) * side
        middle = rng.uniform(-0.14, 0.14, 2) * side
        turn, stretch = float(rng.uniform(0, np.pi)), float(rng.uniform(1.0, 1.6))
        along = (x - middle[1]) * np.cos(turn) + (y - middle[0]) * np.sin(turn)
        across = (y - middle[0]) * np.cos(turn) - (x - middle[1]) * np.sin(turn)
        along, across = along / np.sqrt(stretch), across * np.sqrt(stretch)
        angle = np.arctan2(across, along)
        rim = np.ones(shape, np.float32)
        rough = float(rng.uniform(0.05, 0.22))
        for wave in range(1, HARMONICS + 1):
            size, phase = rough * float(rng.standard_normal()) / wave, float(rng.uniform(0, 2 * np.pi))
            rim += np.float32(size) * np.cos(wave * angle + phase)
        ragged = float(rng.uniform(0.02, 0.12)) * radius
        depth = radius * rim - np.hypot(along, across)
        depth += ragged * plane_noise(rng, shape, spacing_px=max(3.0, 0.25 * radius))
        mask = _one_piece(depth > 0)
    return mask, {"radius_px": radius, "center_px": [float(n) for n in middle]}


def _one_piece(shape: BoolArray) -> BoolArray:
    """The largest piece, with its holes filled."""
    pieces, count = ndimage.label(shape)
    if not count:
        return shape
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    return np.asarray(ndimage.binary_fill_holes(largest), bool)


def _depth(mask: BoolArray) -> FloatArray:
    """(y, x) distance to the border in pixels, above 0 inside."""
    inside, outside = (ndimage.distance_transform_edt(part) for part in (mask, ~mask))
    return np.asarray(inside - outside, np.float32) - np.where(mask, 0.5, -0.5).astype(np.float32)


def _skin(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[FloatArray, dict[str, Any]]:
    """(y, x, 3) skin with a gradient of light, redness in patches, and texture."""
    tone = float(rng.beta(1.2, 2.2))
    base = LIGHT_SKIN + tone * (DARK_SKIN - LIGHT_SKIN)
    side = min(shape)
    y, x = _centered(shape)
    way, slope = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.0, 0.25))
    light = 1 + slope * (x * np.cos(way) + y * np.sin(way)) / side
    light = light + 0.03 * plane_noise(rng, shape, spacing_px=side / 3)
    light += float(rng.uniform(0.005, 0.03)) * plane_noise(rng, shape, spacing_px=2.5)
    red = float(rng.uniform(0.0, 0.07)) * plane_noise(rng, shape, spacing_px=side / 5)
    color = light[..., None] * np.exp(-red[..., None] * PIGMENTS["red"]) * base
    return np.asarray(color, np.float32), {"skin_tone": tone, "light_slope": slope}


def _pigmented(
    rng: np.random.Generator, color: FloatArray, depth: FloatArray, side: int, record: dict[str, Any]
) -> FloatArray:
    """Skin with the pigment of a lesion: brown everywhere, other colors in patches, blurred at its border."""
    shape = (depth.shape[0], depth.shape[1])
    radius = max(record["radius_px"], 4.0)
    soft = float(rng.uniform(0.6, 0.02 * side + 1.0))
    cover = 1 / (1 + np.exp(-np.clip(depth / soft, -30, 30)))
    amount = float(rng.uniform(0.35, 1.4))
    uneven = float(rng.uniform(0.1, 0.35))
    pigment = amount * (1 + uneven * plane_noise(rng, shape, spacing_px=max(3.0, 0.4 * radius)))
    pigment += 0.12 * amount * plane_noise(rng, shape, spacing_px=3.0)
    absorbed = np.clip(pigment, 0.15 * amount, None)[..., None] * PIGMENTS["brown"]
    patches = []
    for name in ("blue", "red", "brown"):
        if rng.random() < 0.35:
            level = float(rng.uniform(0.4, 1.2))
            place = plane_noise(rng, shape, spacing_px=max(3.0, 0.6 * radius)) > level
            smooth = ndimage.gaussian_filter(place.astype(np.float32), 2.0)
            absorbed = absorbed + float(rng.uniform(0.3, 0.9)) * smooth[..., None] * PIGMENTS[name]
            patches.append(name)
    if rng.random() < 0.2:
        scar = plane_noise(rng, shape, spacing_px=max(3.0, 0.5 * radius)) > 1.0
        absorbed = absorbed * (1 - 0.6 * ndimage.gaussian_filter(scar.astype(np.float32), 2.0))[..., None]
        patches.append("pale")
    record.update({"border_px": soft, "pigment": amount, "patches": patches})
    return np.asarray(color * np.exp(-cover[..., None] * absorbed), np.float32)


def _hairs(rng: np.random.Generator, color: FloatArray, side: int) -> tuple[FloatArray, int]:
    """Bent hairs over everything, dark or fair, in more than half of the pictures."""
    count = sometimes(rng, 0.6, 1, 30)
    if not count:
        return color, 0
    height, width = color.shape[:2]
    trace = np.zeros(height * width, np.float32)
    steps = np.linspace(0, 1, 4 * side, dtype=np.float32)[:, None]
    for _ in range(count):
        way, length = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0.2, 1.0)) * side
        start = rng.uniform(0, (height, width))
        end = start + length * np.array([np.sin(way), np.cos(way)])
        bend = (start + end) / 2 + rng.normal(0, 0.15 * length, 2)
        line = (1 - steps) ** 2 * start + 2 * steps * (1 - steps) * bend + steps**2 * end
        index = np.rint(line).astype(int)
        index = index[np.all((index >= 0) & (index < (height, width)), axis=1)]
        trace[index[:, 0] * width + index[:, 1]] = float(rng.uniform(0.6, 1.0))
    thickness = float(rng.uniform(0.5, 0.9)) * max(1.0, side / 400)
    # A line one pixel wide keeps its full strength in its middle.
    cover = ndimage.gaussian_filter(trace.reshape(height, width), thickness) * thickness * np.sqrt(2 * np.pi)
    cover = np.clip(cover, 0, 1)[..., None] * float(rng.uniform(0.6, 0.95))
    fair = rng.random() < 0.15
    tint = np.array([225.0, 205.0, 170.0]) if fair else np.array([50.0, 36.0, 30.0]) * rng.uniform(0.5, 1.4)
    return np.asarray(color * (1 - cover) + cover * tint, np.float32), count


def _glints(rng: np.random.Generator, color: FloatArray, side: int) -> tuple[FloatArray, int]:
    """Reflections of the lamp in the contact fluid."""
    count = sometimes(rng, 0.35, 1, 12)
    height, width = color.shape[:2]
    spots = np.zeros((height, width), np.float32)
    for _ in range(count):
        y, x = int(rng.integers(height)), int(rng.integers(width))
        spots[y, x] = 1
    if not count:
        return color, 0
    sigma = float(rng.uniform(0.8, 2.0)) * max(1.0, side / 300)
    cover = np.clip(ndimage.gaussian_filter(spots, sigma) * 2 * np.pi * sigma**2, 0, 1)[..., None]
    return np.asarray(color + 0.8 * cover * (255 - color), np.float32), count


def lesion_row(folder: Path, index: int, *, prefix: str = "lesion") -> PictureRow:
    """Picture `index` of a folder, its mask of equal name, and what it is for."""
    name = f"{prefix}_{index:04d}.png"
    return PictureRow(
        image=folder / "images" / name, mask=folder / "masks" / name, split=SPLITS[index % len(SPLITS)]
    )


def make_folders(folder: Path) -> None:
    """The folders within one that pictures are written to."""
    for name in ("images", "masks", "records"):
        make_folder(folder / name)


def record_path(folder: Path, row: PictureRow) -> Path:
    """The record of a picture."""
    return folder / "records" / f"{row.image.stem}.json"


def write_lesion(simulated: SimulatedLesion, row: PictureRow, record: Path) -> None:
    """Write picture, mask and, last, the record that marks them as finished.

    Raises
    ------
    OutputError
        If one of them cannot be written.
    """
    # The record is the mark of completion, so an old one must not outlive the files it tells of.
    record.unlink(missing_ok=True)
    write_picture(row.image, simulated.rgb, overwrite=True)
    write_picture(row.mask, simulated.mask, overwrite=True)
    write_record(record, simulated.record)


def simulate_lesion_folder(
    config: SimulateLesionsConfig,
    folder: Path,
    *,
    count: int,
    overwrite: bool = False,
    prefix: str = "lesion",
) -> Generator[LesionOutcome, None, None]:
    """Pictures 0 to `count` - 1 in a folder, finished ones kept, and at last their list.

    Parameters
    ----------
    config
        Shape and seed.
    folder
        Made if missing; receives `images`, `masks`, `records` and `lesions.csv`.
    count
        Number of pictures; of five in a row three are for training, one for validation, one for tests.
    overwrite
        Make finished ones again.
    prefix
        First part of the file names.

    Raises
    ------
    OutputError
        If the folder holds pictures of other settings and `overwrite` is not given.
    """
    make_folders(folder)
    rows = [lesion_row(folder, index, prefix=prefix) for index in range(count)]
    for index, row in enumerate(rows):
        begun = time.perf_counter()
        path = record_path(folder, row)
        record = None if overwrite else finished_record(config, index, (row.image, row.mask), path)
        made = record is None
        if record is None:
            simulated = simulate_lesion(config, index)
            record = simulated.record
            write_lesion(simulated, row, path)
        yield LesionOutcome(row=row, made=made, seconds=time.perf_counter() - begun, record=record)
    write_picture_list(folder / LIST, rows, overwrite=True)
