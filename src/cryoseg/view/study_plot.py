"""A line plot as SVG text: mean and single values over a few conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, MARGIN = 640, 400, 60


def study_svg(values: Mapping[str, Sequence[float]], *, title: str, x_label: str, y_label: str) -> str:
    """Plot of the values of every condition, in order, with a line through the means.

    Parameters
    ----------
    values
        Condition to its repeats, each from 0 to 1 or any common range; none empty.
    title, x_label, y_label
        Words on the picture.
    """
    every = [value for repeats in values.values() for value in repeats]
    low, high = min(every), max(every)
    pad = 0.1 * (high - low) or 0.05
    low, high = low - pad, high + pad

    def x(place: int) -> float:
        return MARGIN + (place + 0.5) * (WIDTH - 2 * MARGIN) / len(values)

    def y(value: float) -> float:
        return HEIGHT - MARGIN - (value - low) / (high - low) * (HEIGHT - 2 * MARGIN)

    means = [sum(repeats) / len(repeats) for repeats in values.values()]
    path = " ".join(f"{x(i):.1f},{y(mean):.1f}" for i, mean in enumerate(means))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="24" text-anchor="middle" font-size="15">{escape(title)}</text>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(16 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>",
        f'<path d="M{MARGIN} {MARGIN}V{HEIGHT - MARGIN}H{WIDTH - MARGIN}" fill="none" stroke="black"/>',
    ]
    for tick in range(5):
        value = low + (high - low) * tick / 4
        parts.append(f'<text x="{MARGIN - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3f}</text>')
    for i, (name, repeats) in enumerate(values.items()):
        place = f'x="{x(i):.1f}" y="{HEIGHT - MARGIN + 18}"'
        parts.append(f'<text {place} text-anchor="middle">{escape(name)}</text>')
        parts += [
            f'<circle cx="{x(i):.1f}" cy="{y(v):.1f}" r="3" fill="#1f77b4" opacity="0.6"/>' for v in repeats
        ]
    parts.append(f'<polyline points="{path}" fill="none" stroke="#1f77b4" stroke-width="2"/>')
    return "\n".join([*parts, "</svg>\n"])
