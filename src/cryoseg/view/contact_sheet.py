"""Draw a contact sheet of a batch with a tile for each input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from cryoseg.view.sections import GROUND_RGB, INK_RGB, TILE_KEY

TILE_PIXELS = 240
CAPTION_PIXELS = 32
MARGIN = 8
MOST_COLUMNS = 8
EMPTY_RGB = (225, 227, 230)
FAILED_RGB = (190, 30, 30)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The tile of one input: its name, a note such as metrics or an error, and the PNG file of its preview.

    Without a preview the tile is empty; with `is_failed` the note is red.
    """

    name: str
    note: str = ""
    preview: Path | None = None
    is_failed: bool = False


def draw_contact_sheet(tiles: Sequence[Tile]) -> Image.Image:
    """Draw one or more tiles in rows; a tile shows the main panel of its preview."""
    columns = next(n for n in range(1, MOST_COLUMNS + 1) if n * n >= len(tiles) or n == MOST_COLUMNS)
    rows = -(-len(tiles) // columns)
    step_x, step_y = TILE_PIXELS + MARGIN, TILE_PIXELS + CAPTION_PIXELS + MARGIN
    sheet = Image.new("RGB", (MARGIN + columns * step_x, MARGIN + rows * step_y), GROUND_RGB)
    draw = ImageDraw.Draw(sheet)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * step_x, MARGIN + row * step_y
        draw.rectangle([left, top, left + TILE_PIXELS - 1, top + TILE_PIXELS - 1], fill=EMPTY_RGB)
        if tile.preview is not None:
            picture = _main_panel(tile.preview)
            picture.thumbnail((TILE_PIXELS, TILE_PIXELS), Image.Resampling.LANCZOS)
            sheet.paste(
                picture,
                (left + (TILE_PIXELS - picture.width) // 2, top + (TILE_PIXELS - picture.height) // 2),
            )
        for line, (text, color) in enumerate(
            ((tile.name, INK_RGB), (tile.note, FAILED_RGB if tile.is_failed else INK_RGB))
        ):
            draw.text((left, top + TILE_PIXELS + 3 + 14 * line), _fitting(draw, text), fill=color)
    return sheet


def _main_panel(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        tile = str(picture.info.get(TILE_KEY, ""))
        whole = picture.convert("RGB")
    width, _, height = tile.partition(" ")
    if width.isdigit() and height.isdigit():
        return whole.crop((0, 0, min(int(width), whole.width), min(int(height), whole.height)))
    return whole


def _fitting(draw: ImageDraw.ImageDraw, text: str) -> str:
    """Shorten a text in the middle to the width of a tile, because names of a batch differ at the ends."""
    if draw.textlength(text) <= TILE_PIXELS:
        return text
    for kept in range(len(text) - 1, 1, -1):
        head = kept // 2
        short = f"{text[:head]}...{text[len(text) - (kept - head) :]}"
        if draw.textlength(short) <= TILE_PIXELS:
            return short
    return ""
