"""A picture to judge picks by: slices with a circle where a particle's section is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cryoseg.io.outputs import atomic_output
from cryoseg.types import FloatArray
from cryoseg.view.preview import TEXT_RGB, preview_slices

PICK_RGB = (255, 170, 0)
LABEL_RGB = (60, 220, 90)
HEAT_RGB = np.array([255, 60, 40])
PANEL_PIXELS = 480
COLUMNS = 3
HEAT_OPACITY = 0.5


def draw_picks(
    data: NDArray[Any],
    centers: NDArray[np.float64],
    *,
    diameter_voxels: tuple[float, float, float],
    labels: NDArray[np.float64] | None = None,
    heat: FloatArray | None = None,
    slices: list[int] | None = None,
) -> Image.Image:
    """Slices in a grid, picks as circles as wide as the particle is on that slice.

    Parameters
    ----------
    data
        (z, y, x).
    centers
        (n, 3) z, y, x, voxels.
    diameter_voxels
        (z, y, x) of a particle.
    labels
        (m, 3), drawn in another color.
    heat
        Probabilities over the same extent on any grid; tints the slices.
    slices
        Which ones; six spread over the volume by default.
    """
    chosen = slices if slices is not None else preview_slices(len(data))
    scale = min(4.0, PANEL_PIXELS / max(data.shape[1:]))
    panels = []
    for z in chosen:
        panel = _background(
            np.asarray(data[z], np.float32), None if heat is None else _heat_slice(heat, z, data.shape)
        )
        panel = panel.resize((max(1, round(data.shape[2] * scale)), max(1, round(data.shape[1] * scale))))
        draw = ImageDraw.Draw(panel)
        for points, color in ((labels, LABEL_RGB), (centers, PICK_RGB)):
            if points is not None:
                _circles(draw, points, z, diameter_voxels, scale, color)
        draw.text((6, 4), f"z {z}", fill=TEXT_RGB, stroke_width=2, stroke_fill=(0, 0, 0))
        panels.append(panel)
    columns = min(COLUMNS, len(panels))
    width, height = panels[0].size
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * (width + 4) - 4, rows * (height + 4) - 4), (255, 255, 255))
    for number, panel in enumerate(panels):
        sheet.paste(panel, ((number % columns) * (width + 4), (number // columns) * (height + 4)))
    return sheet


def write_pick_preview(path: Path, picture: Image.Image, *, overwrite: bool = False) -> None:
    """Write a picture of `draw_picks` as PNG."""
    with atomic_output(path, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        picture.save(stream, format="PNG")


def _background(image: FloatArray, heat: FloatArray | None) -> Image.Image:
    low, high = np.percentile(image, [1, 99])
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)[..., None] * 255
    rgb = np.repeat(grey, 3, axis=2)
    if heat is not None:
        opacity = HEAT_OPACITY * heat[..., None]
        rgb = (1 - opacity) * rgb + opacity * HEAT_RGB
    return Image.fromarray(rgb.astype(np.uint8))


def _heat_slice(heat: FloatArray, z: int, shape: tuple[int, ...]) -> FloatArray:
    """The heat map's values on the voxels of slice `z`, by nearest neighbor."""
    index = [
        np.minimum(((np.arange(n) + 0.5) * m / n).astype(int), m - 1)
        for n, m in zip(shape, heat.shape, strict=True)
    ]
    plane: FloatArray = heat[index[0][z]][np.ix_(index[1], index[2])]
    return plane


def _circles(
    draw: ImageDraw.ImageDraw,
    points: NDArray[np.float64],
    z: int,
    diameter: tuple[float, float, float],
    scale: float,
    color: tuple[int, int, int],
) -> None:
    for point in points:
        height = 2 * (point[0] - z) / diameter[0]
        if abs(height) >= 1:
            continue
        share = np.sqrt(1 - height**2) * scale / 2
        y, x = (point[1:] + 0.5) * scale
        draw.ellipse(
            [
                x - share * diameter[2],
                y - share * diameter[1],
                x + share * diameter[2],
                y + share * diameter[1],
            ],
            outline=color,
            width=2,
        )
