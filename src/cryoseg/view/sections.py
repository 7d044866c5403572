"""Central sections of a volume in three planes, and what previews of them share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, PngImagePlugin

from cryoseg.core.grids.blank import signal_values
from cryoseg.io.outputs import atomic_output

PANELS = 6
COLUMNS = 3
GAP = 4
MAIN_PIXELS = 720  # longest side of the slice along z
ROW_PIXELS = 900  # of that slice and the section beside it
SIDE_PIXELS = 300
TEXT_RGB = (255, 255, 255)
GROUND_RGB = (255, 255, 255)
INK_RGB = (40, 40, 40)
BELOW_RGB = (150, 155, 160)
THRESHOLD_RGB = (200, 0, 0)
# A contact sheet cuts this part out of a preview; the PNG carries it as text.
TILE_KEY = "cryoseg-tile"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One plane through a volume.

    Attributes
    ----------
    axis
        That it is perpendicular to: 0 z, 1 y, 2 x.
    index
        Along that axis, in voxels.
    """

    axis: int
    index: int

    @property
    def label(self) -> str:
        """Such as `z 20`."""
        return f"{'zyx'[self.axis]} {self.index}"

    @property
    def down(self) -> int:
        """Axis of the volume that runs down in the picture; z runs across beside the main slice."""
        return 0 if self.axis == 1 else 1

    @property
    def across(self) -> int:
        """Axis of the volume that runs to the right."""
        return 0 if self.axis == 2 else 2

    def of(self, volume: NDArray[Any]) -> NDArray[Any]:
        """(rows, columns) of a volume (z, y, x)."""
        plane = np.asarray(volume[(slice(None),) * self.axis + (self.index,)])
        return plane.T if self.axis == 2 else plane


def central_sections(shape: tuple[int, ...]) -> list[Section]:
    """Through the middle, along z, y, x; of a single slice that slice alone."""
    axes = (0,) if shape[0] == 1 else (0, 1, 2)
    return [Section(axis=axis, index=shape[axis] // 2) for axis in axes]


def spread_slices(depth: int) -> list[int]:
    """Up to six slices, evenly spread over the inner nine tenths of a volume."""
    if depth <= PANELS:
        return list(range(depth))
    return [round(v) for v in np.linspace(0.05 * (depth - 1), 0.95 * (depth - 1), PANELS)]


def central_scale(shape: tuple[int, ...]) -> float:
    """Pixels per voxel of the central sections."""
    depth, height, width = shape
    beside = 0 if depth == 1 else depth
    return float(min(MAIN_PIXELS / max(height, width), ROW_PIXELS / (width + beside)))


def row_scale(shape: tuple[int, ...], *, has_side: bool) -> float:
    """Pixels per voxel at which three slices are as wide as the central sections and what is beside."""
    depth, height, width = shape
    whole = central_scale(shape) * (width + depth) + GAP + (SIDE_PIXELS + GAP if has_side else 0)
    return float((whole - (COLUMNS - 1) * GAP) / COLUMNS / max(height, width))


def grey_range(images: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Values of black and white: the percentiles 1 and 99 of the signal in some (y, x) images together."""
    values = np.concatenate([signal_values(np.asarray(image, np.float32)) for image in images])
    low, high = (float(v) for v in np.percentile(values, [1, 99]))
    return low, high


def to_grey(image: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Bytes from black to white, any shape; one middle grey where the limits coincide."""
    low, high = limits
    values = np.asarray(image, np.float32)
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) * 255, np.uint8)


def write_label(draw: ImageDraw.ImageDraw, text: str) -> None:
    """In the upper left corner of a panel."""
    draw.text((6, 4), text, fill=TEXT_RGB, stroke_width=2, stroke_fill=(0, 0, 0))


def draw_scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], *, angstrom_per_pixel: float) -> None:
    """A bar of a round length, about a quarter of the panel's width, in the lower left corner."""
    wanted = 0.25 * size[0] * angstrom_per_pixel / 10
    power = 10 ** np.floor(np.log10(wanted))
    nanometers = float(max(step * power for step in (1, 2, 5) if step * power <= wanted))
    length = round(nanometers * 10 / angstrom_per_pixel)
    left, top = 8, size[1] - 12
    draw.rectangle([left, top, left + length, top + 4], fill=TEXT_RGB, outline=(0, 0, 0))
    draw.text((left, top - 14), f"{nanometers:g} nm", fill=TEXT_RGB, stroke_width=2, stroke_fill=(0, 0, 0))


def compose(
    central: Sequence[Image.Image], side: Sequence[Image.Image], rows: Sequence[Image.Image] = ()
) -> Image.Image:
    """A preview: sections along z, y, x as the sides of a box, charts beside, slices below.

    Parameters
    ----------
    central
        One panel, or three along z, y, x: y stands below z, x beside it.
    side
        Panels in a column at the right.
    rows
        Equal panels, three in a row.

    Returns
    -------
    Image
        `info` holds where the panel along z lies, for a contact sheet.
    """
    main = central[0]
    right = main.width + GAP
    bottom = main.height
    places: list[tuple[Image.Image, int, int]] = [(main, 0, 0)]
    if len(central) > 1:
        _, below, beside = central
        places += [(below, 0, main.height + GAP), (beside, main.width + GAP, 0)]
        right += beside.width + GAP
        bottom = main.height + GAP + below.height
    top = 0
    for panel in side:
        places.append((panel, right, top))
        top += panel.height + GAP
    bottom = max(bottom, top - GAP)
    for number, panel in enumerate(rows):
        row, column = divmod(number, COLUMNS)
        places.append((panel, column * (panel.width + GAP), bottom + GAP + row * (panel.height + GAP)))
    size = (
        max(left + panel.width for panel, left, _ in places),
        max(upper + panel.height for panel, _, upper in places),
    )
    sheet = Image.new("RGB", size, GROUND_RGB)
    for panel, left, upper in places:
        sheet.paste(panel, (left, upper))
    sheet.info[TILE_KEY] = f"{main.width} {main.height}"
    return sheet


def histogram(
    values: NDArray[Any],
    *,
    title: str,
    threshold: float | None,
    above_rgb: tuple[int, int, int],
    limits: tuple[float, float] | None = None,
) -> Image.Image:
    """Bars on a logarithmic scale, colored above the threshold.

    Parameters
    ----------
    values
        Any shape; may be empty. Those that are not finite are left out.
    title
        What they are.
    threshold
        Where the line stands; None for none.
    above_rgb
        Of the bars above it.
    limits
        Of the axis; the range of the values by default.
    """
    width, height, margin, foot = SIDE_PIXELS, 200, 8, 34
    panel = Image.new("RGB", (width, height), GROUND_RGB)
    draw = ImageDraw.Draw(panel)
    draw.text((margin, 2), title, fill=INK_RGB)
    values = values[np.isfinite(values)]
    low, high = limits or ((float(values.min()), float(values.max())) if values.size else (0.0, 1.0))
    if high <= low:
        low, high = low - 0.5, low + 0.5
    bins = (width - 2 * margin) // 3
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    tall = np.log1p(counts) / max(float(np.log1p(counts.max())), 1e-9)
    span = width - 2 * margin
    places = margin + np.rint((edges - low) / (high - low) * span).astype(int)
    for number in np.flatnonzero(counts).tolist():
        top = height - foot - max(1, round(float(tall[number]) * (height - foot - 20)))
        is_above = threshold is not None and edges[number] >= threshold
        draw.rectangle(
            [int(places[number]), top, int(places[number + 1]) - 1, height - foot],
            fill=above_rgb if is_above else BELOW_RGB,
        )
    draw.line([margin, height - foot, width - margin, height - foot], fill=INK_RGB)
    draw.text((margin, height - foot + 4), f"{low:.3g}", fill=INK_RGB)
    text = f"{high:.3g}"
    draw.text((width - margin - draw.textlength(text), height - foot + 4), text, fill=INK_RGB)
    if threshold is not None and low <= threshold <= high:
        x = margin + round((threshold - low) / (high - low) * span)
        draw.line([x, 18, x, height - foot + 4], fill=THRESHOLD_RGB, width=2)
        text = f"threshold {threshold:.3g}"
        left_edge = min(max(margin, x - draw.textlength(text) / 2), width - margin - draw.textlength(text))
        draw.text((left_edge, height - foot + 18), text, fill=THRESHOLD_RGB)
    return panel


def write_png(path: Path, picture: Image.Image, *, overwrite: bool = False) -> None:
    """Write a preview; what a contact sheet cuts out of it is kept as text in the file."""
    text = PngImagePlugin.PngInfo()
    if tile := picture.info.get(TILE_KEY):
        text.add_text(TILE_KEY, str(tile))
    with atomic_output(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        picture.save(stream, format="PNG", pnginfo=text)
