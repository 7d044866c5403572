"""Draw previews of volumes: central sections in three planes, slices, histograms and scale bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
MAIN_PIXELS = 720  # Longest side of the central z slice.
ROW_PIXELS = 900  # Largest width of the central z slice and the section beside it.
SIDE_PIXELS = 300
TEXT_RGB = (255, 255, 255)
GROUND_RGB = (255, 255, 255)
INK_RGB = (40, 40, 40)
BELOW_RGB = (150, 155, 160)
THRESHOLD_RGB = (200, 0, 0)
# Key of the PNG text with the size of the part of a preview that a contact sheet shows.
TILE_KEY = "cryoseg-tile"


@dataclass(frozen=True, kw_only=True)
class Section:
    """A plane through a volume.

    Attributes
    ----------
    axis
        Perpendicular axis: 0 for z, 1 for y, 2 for x.
    index
        Index along that axis in voxels.
    """

    axis: int
    index: int

    @property
    def label(self) -> str:
        """Label of the plane, such as `z 20`."""
        return f"{'zyx'[self.axis]} {self.index}"

    @property
    def down(self) -> int:
        """Vertical axis of the panel."""
        return 0 if self.axis == 1 else 1

    @property
    def across(self) -> int:
        """Horizontal axis of the panel."""
        return 0 if self.axis == 2 else 2

    def of(self, volume: NDArray[Any]) -> NDArray[Any]:
        """Return the plane of a (z, y, x) volume with the axes of the panel."""
        plane = np.asarray(volume[(slice(None),) * self.axis + (self.index,)])
        return plane.T if self.axis == 2 else plane


def central_sections(shape: tuple[int, ...]) -> list[Section]:
    """Return the central sections perpendicular to z, y and x; a single slice has one section."""
    axes = (0,) if shape[0] == 1 else (0, 1, 2)
    return [Section(axis=axis, index=shape[axis] // 2) for axis in axes]


def spread_slices(depth: int) -> list[int]:
    """Return up to six evenly spaced indices in the inner 90 % of `depth` slices."""
    if depth <= PANELS:
        return list(range(depth))
    return [round(v) for v in np.linspace(0.05 * (depth - 1), 0.95 * (depth - 1), PANELS)]


def central_scale(shape: tuple[int, ...]) -> float:
    """Return the pixels per voxel of the central sections."""
    depth, height, width = shape
    beside = 0 if depth == 1 else depth
    return float(min(MAIN_PIXELS / max(height, width), ROW_PIXELS / (width + beside)))


def row_scale(shape: tuple[int, ...], *, has_side: bool) -> float:
    """Return the pixels per voxel at which three slices have the width of the panels above them."""
    depth, height, width = shape
    whole = central_scale(shape) * (width + depth) + GAP + (SIDE_PIXELS + GAP if has_side else 0)
    return float((whole - (COLUMNS - 1) * GAP) / COLUMNS / max(height, width))


def grey_range(images: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """Return the values of black and white: the percentiles 1 and 99 of the signal in (y, x) images."""
    values = np.concatenate([signal_values(np.asarray(image, np.float32)) for image in images])
    low, high = (float(v) for v in np.percentile(values, [1, 99]))
    return low, high


def to_grey(image: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Scale values of any shape to bytes from black to white; equal limits give middle grey."""
    low, high = limits
    values = np.asarray(image, np.float32)
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    return np.asarray(np.clip((values - low) / (high - low), 0, 1) * 255, np.uint8)


def panel_size(image: NDArray[Any], scale: float) -> tuple[int, int]:
    """Return width and height of the panel of a (y, x) image in pixels."""
    height, width = image.shape
    return max(1, round(width * scale)), max(1, round(height * scale))


def draw_sections(
    data: NDArray[Any],
    panel: Callable[[Section, float, tuple[float, float]], Image.Image],
    side: Sequence[Image.Image],
    *,
    pixel_size: float | None,
) -> Image.Image:
    """Draw central sections and up to six slices of a volume as labeled panels.

    Parameters
    ----------
    data
        (z, y, x) volume.
    panel
        Function that draws a section with a scale (pixels per voxel) and the values of black and white.
    side
        Panels at the right.
    pixel_size
        Pixel size in angstrom; there is no scale bar without it.
    """

    def labeled(section: Section, scale: float, limits: tuple[float, float]) -> Image.Image:
        picture = panel(section, scale, limits)
        write_label(ImageDraw.Draw(picture), section.label)
        return picture

    sections = central_sections(data.shape)
    limits = grey_range([section.of(data) for section in sections])
    scale = central_scale(data.shape)
    central = [labeled(section, scale, limits) for section in sections]
    if pixel_size:
        draw_scale_bar(ImageDraw.Draw(central[0]), central[0].size, angstrom_per_pixel=pixel_size / scale)
    scale = row_scale(data.shape, has_side=bool(side))
    slices = [Section(axis=0, index=z) for z in spread_slices(len(data))] if len(sections) > 1 else []
    return compose(central, side, [labeled(one, scale, grey_range([one.of(data)])) for one in slices])


def write_label(draw: ImageDraw.ImageDraw, text: str) -> None:
    """Write a text into the upper left corner of a panel."""
    draw.text((6, 4), text, fill=TEXT_RGB, stroke_width=2, stroke_fill=(0, 0, 0))


def draw_scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], *, angstrom_per_pixel: float) -> None:
    """Draw a scale bar of a round length of up to a quarter of the panel's width."""
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
    """Arrange the panels of a preview; its `info` contains the size of the main panel for a contact sheet.

    `central` are the panels perpendicular to z, y and x, or to z only: the second one is placed below the
    first, the third one to its right. Those in `side` form a column at the right, and `rows` are panels of
    one size below, three in a row.
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
    """Draw a histogram with logarithmic counts.

    Parameters
    ----------
    values
        Values of any shape; those that are not finite are ignored.
    title
        Title of the panel.
    threshold
        Value that a line marks; None for no line.
    above_rgb
        Color of the bars above the threshold.
    limits
        Limits of the axis; None uses the range of the values.
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
    """Write a preview as PNG with the size of its main panel as text."""
    text = PngImagePlugin.PngInfo()
    if tile := picture.info.get(TILE_KEY):
        text.add_text(TILE_KEY, str(tile))
    with atomic_output(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        # The files of a micrograph are as small as with the default of 6, which takes 2.5 times as long.
        picture.save(stream, format="PNG", pnginfo=text, compress_level=3)
