"""A picture to judge a segmentation by: six slices with the outline of the mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from cryoseg.io.outputs import atomic_output
from cryoseg.types import BoolArray

PANELS = 6
COLUMNS = 3
PANEL_PIXELS = 480
OUTLINE_RGB = (255, 170, 0)
TEXT_RGB = (255, 255, 255)


def preview_slices(depth: int) -> list[int]:
    """Up to six slices, evenly spread over the inner nine tenths of a volume."""
    if depth <= PANELS:
        return list(range(depth))
    return [round(v) for v in np.linspace(0.05 * (depth - 1), 0.95 * (depth - 1), PANELS)]


def draw_preview(data: NDArray[Any], mask: BoolArray, *, pixel_size: float | None = None) -> Image.Image:
    """Slices in a grid, mask outlined, with z and a scale bar.

    Parameters
    ----------
    data, mask
        (z, y, x).
    pixel_size
        In angstrom; no scale bar without it.
    """
    panels = [_panel(data[z], mask[z], f"z {z}", pixel_size) for z in preview_slices(len(data))]
    columns = min(COLUMNS, len(panels))
    width, height = panels[0].size
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * (width + 4) - 4, rows * (height + 4) - 4), (255, 255, 255))
    for i, panel in enumerate(panels):
        sheet.paste(panel, ((i % columns) * (width + 4), (i // columns) * (height + 4)))
    return sheet


def write_preview(
    path: Path,
    data: NDArray[Any],
    mask: BoolArray,
    *,
    pixel_size: float | None = None,
    overwrite: bool = False,
) -> None:
    """Write `draw_preview` as PNG."""
    with atomic_output(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        draw_preview(data, mask, pixel_size=pixel_size).save(stream, format="PNG")


def _panel(image: NDArray[Any], mask: BoolArray, label: str, pixel_size: float | None) -> Image.Image:
    height, width = mask.shape
    scale = PANEL_PIXELS / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    grey = Image.fromarray(_contrast(image)).resize(size, Image.Resampling.BICUBIC)
    # Membranes are thin: area averaging with a low cut keeps them when the slice is shrunk.
    shape = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(size, Image.Resampling.BOX)
    inside = np.asarray(shape) > 127 if scale >= 1 else np.asarray(shape) > 60
    outline = inside & ~ndimage.binary_erosion(inside, border_value=1)
    rgb = np.repeat(np.asarray(grey)[..., None], 3, axis=2)
    rgb[outline] = OUTLINE_RGB
    panel = Image.fromarray(rgb)
    draw = ImageDraw.Draw(panel)
    draw.text((6, 4), label, fill=TEXT_RGB, stroke_width=2, stroke_fill=(0, 0, 0))
    if pixel_size:
        _scale_bar(draw, size, pixel_size / scale)
    return panel


def _contrast(image: NDArray[Any]) -> NDArray[np.uint8]:
    values = image.astype(np.float32)
    low, high = np.percentile(values, [1, 99])
    if high <= low:
        return np.full(values.shape, 128, np.uint8)
    scaled: NDArray[np.uint8] = (np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return scaled


def _scale_bar(draw: ImageDraw.ImageDraw, size: tuple[int, int], angstrom_per_pixel: float) -> None:
    wanted = 0.25 * size[0] * angstrom_per_pixel / 10
    power = 10 ** np.floor(np.log10(wanted))
    nanometers = float(max(step * power for step in (1, 2, 5) if step * power <= wanted))
    length = round(nanometers * 10 / angstrom_per_pixel)
    left, top = 8, size[1] - 12
    draw.rectangle([left, top, left + length, top + 4], fill=TEXT_RGB, outline=(0, 0, 0))
    draw.text((left, top - 14), f"{nanometers:g} nm", fill=TEXT_RGB, stroke_width=2, stroke_fill=(0, 0, 0))
