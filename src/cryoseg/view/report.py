"""Parts of a self-contained HTML report: text, tables, charts as SVG and images as PNG."""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cryoseg.types import BoolArray

# Colors of Okabe and Ito, which are suitable for color-blind readers.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
HIT, WRONG, MISSED = (0, 158, 115), (213, 94, 0), (0, 114, 178)
LONGEST_PX = 420  # Longest side of an image in the page.
MOST_POINTS = 400  # Largest number of points of a curve.
_CLEAR, _UNKNOWN = (250, 250, 250), (205, 205, 205)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0; display: block; overflow-x: auto }
td, th { padding: .2em .7em; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }
td:first-child, th:first-child { text-align: left }
figure { display: inline-block; margin: .5em 1em .5em 0; vertical-align: top }
figcaption { font-size: 13px; max-width: 30em }
img { image-rendering: pixelated; border: 1px solid #ccc; max-width: 100% }
.error { color: #b00 }
code { background: #f3f3f3; padding: .1em .3em }
"""


def page(title: str, blocks: Sequence[str]) -> str:
    """Return an HTML document of a title and HTML blocks."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>\n"
        + "\n".join(blocks)
        + "\n</body></html>\n"
    )


def heading(text: str) -> str:
    """Return the heading of a section."""
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str, *, is_error: bool = False) -> str:
    """Return a paragraph of plain text."""
    return f"<p{' class=error' if is_error else ''}>{html.escape(text)}</p>"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of plain texts."""
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    lines = [f"<tr>{cells}</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return f"<table>{''.join(lines)}</table>"


def figure(content: str, caption: str) -> str:
    """Return a chart or image with a caption."""
    return f"<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>"


def image(rgb: NDArray[np.uint8]) -> str:
    """Return a (y, x, 3) image as inline PNG, enlarged by a whole factor or reduced to `LONGEST_PX`."""
    picture = Image.fromarray(rgb)
    longest = max(picture.size)
    scale = LONGEST_PX / longest if longest > LONGEST_PX else LONGEST_PX // longest
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture = picture.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}">'


def error_overlay(pred: BoolArray, truth: BoolArray, known: BoolArray) -> NDArray[np.uint8]:
    """Color hits, false positives and false negatives of a (y, x) slice, as (y, x, 3) bytes.

    Pixels without a known truth are gray, and dark gray if they are predicted.
    """
    rgb = np.empty((*pred.shape, 3), np.uint8)
    rgb[:] = _CLEAR
    rgb[~known] = _UNKNOWN
    rgb[pred & ~known] = tuple(value - 50 for value in _UNKNOWN)
    rgb[pred & truth & known] = HIT
    rgb[pred & ~truth & known] = WRONG
    rgb[~pred & truth & known] = MISSED
    return rgb


def curves(
    lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], *, x_label: str, y_label: str
) -> str:
    """Draw named curves of (n,) x and (n,) y from 0 to 1; points that are not finite are ignored."""
    parts = [_frame(x_label, y_label)]
    for number, (name, (x, y)) in enumerate(lines.items()):
        good = np.isfinite(x) & np.isfinite(y)
        kept = _thinned(np.stack([x[good], y[good]], axis=1))
        path = " ".join(f"{50 + 300 * a:.1f},{310 - 300 * b:.1f}" for a, b in kept)
        color = COLORS[number % len(COLORS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts.append(f'<text x="365" y="{25 + 18 * number}" fill="{color}">{html.escape(name)}</text>')
    return _svg(560, 350, parts)


def bars(values: Mapping[str, Mapping[str, float]], *, label: str) -> str:
    """Draw horizontal bars from 0 to 1 by series and name, with a label of the axis; NaN has no bar."""
    names = list(dict.fromkeys(name for series in values.values() for name in series))
    height = 14 * max(len(values), 1) + 8
    parts = []
    for row, name in enumerate(names):
        top = 10 + row * height
        parts.append(
            f'<text x="195" y="{top + height / 2:.0f}" text-anchor="end">{html.escape(name[-28:])}</text>'
        )
        for number, series in enumerate(values.values()):
            value = series.get(name, math.nan)
            if math.isfinite(value):
                y = top + 14 * number
                width = 300 * min(max(value, 0), 1)
                color = COLORS[number % len(COLORS)]
                parts.append(f'<rect x="200" y="{y}" width="{width:.1f}" height="12" fill="{color}"/>')
                parts.append(f'<text x="{205 + width:.0f}" y="{y + 11}">{value:.3f}</text>')
    bottom = 10 + len(names) * height
    for number, name in enumerate(values):
        color = COLORS[number % len(COLORS)]
        parts.append(
            f'<text x="200" y="{bottom + 16 + 16 * number}" fill="{color}">{html.escape(name)}</text>'
        )
    parts.append(f'<text x="10" y="{bottom + 16}">{html.escape(label)}</text>')
    return _svg(560, bottom + 16 * len(values) + 16, parts)


def _thinned(points: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(points) <= MOST_POINTS:
        return points
    # Points are spaced evenly along the curve, because most thresholds of a sweep are near its ends.
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    chosen = np.searchsorted(along, np.linspace(0, along[-1], MOST_POINTS))
    return points[np.unique(np.clip(chosen, 0, len(points) - 1))]


def _frame(x_label: str, y_label: str) -> str:
    ticks = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = 50 + 300 * tick, 310 - 300 * tick
        ticks.append(f'<path d="M50 {y}H350M{x} 10V310" stroke="#e5e5e5"/>')
        ticks.append(f'<text x="45" y="{y + 4}" text-anchor="end">{tick:g}</text>')
        ticks.append(f'<text x="{x}" y="326" text-anchor="middle">{tick:g}</text>')
    return (
        "".join(ticks)
        + f'<text x="200" y="345" text-anchor="middle">{html.escape(x_label)}</text>'
        + '<text transform="translate(12 160) rotate(-90)" text-anchor="middle">'
        + f"{html.escape(y_label)}</text>"
    )


def _svg(width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-size="12" '
        f'font-family="system-ui, sans-serif" fill="#222">{"".join(parts)}</svg>'
    )
