"""Ordinary color pictures, their masks, and the lists that pair them."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from cryoseg.errors import InputError
from cryoseg.io.images.memory import refuse_impossible_size
from cryoseg.io.outputs import atomic_output

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
COLUMNS = ("image_name", "train_type", "mask_name")
HALF_WHITE = 127
TURNED = range(5, 9)  # Orientations of a camera that exchange width and height.


class Split(StrEnum):
    """Use of a picture in a training."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


@dataclass(frozen=True, kw_only=True)
class PictureRow:
    """One row of a list: a picture, its mask, and their use."""

    image: Path
    mask: Path
    split: Split


def read_picture_list(path: Path) -> list[PictureRow]:
    """Read a published list of pictures.

    Parameters
    ----------
    path
        CSV file with the columns `image_name`, `train_type` and `mask_name`, with names relative to its
        folder.

    Raises
    ------
    InputError
        If a column is missing, picture and mask of a row have different names or do not exist, a
        `train_type` is unknown, or there is no row.

    Source: xinkunwang111/ProMISe ProMISe/utilities/data_loader.py@ce0cfdb.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            found = tuple(name.strip() for name in reader.fieldnames or ())
            reader.fieldnames = list(found)
            if missing := [name for name in COLUMNS if name not in found]:
                raise InputError(
                    f"{path}: has the columns {', '.join(found) or 'none'} and lacks {', '.join(missing)}; "
                    f"name them {','.join(COLUMNS)}."
                )
            rows = [_row(path, reader.line_num, values) for values in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error}).") from error
    if not rows:
        raise InputError(f"{path}: has no rows; give one picture and mask a line.")
    return rows


def _row(path: Path, line: int, values: dict[str, str | None]) -> PictureRow:
    where = f"{path}, line {line}"
    image, split, mask = ((values.get(name) or "").strip() for name in COLUMNS)
    if not image or not mask:
        raise InputError(f"{where}: names no {'mask' if image else 'picture'}; give both or drop the line.")
    if split not in tuple(Split):
        raise InputError(f"{where}: train_type is {split!r}; write train, val or test.")
    picture, truth = path.parent / Path(image), path.parent / Path(mask)
    if picture.stem != truth.stem:
        raise InputError(
            f"{where}: picture {picture.name} and mask {truth.name} have different names, so they may not "
            "belong together; give both the same."
        )
    for file in (picture, truth):
        if not file.is_file():
            raise InputError(f"{where}: there is no file {file}; names count from the list's folder.")
    return PictureRow(image=picture, mask=truth, split=Split(split))


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read a picture as (y, x, 3) in 8 bits, in the orientation of the camera, without transparency.

    Raises
    ------
    InputError
        If it is missing or no picture.
    """
    return _read(path, "RGB")


def read_picture_mask(path: Path) -> NDArray[np.bool_]:
    """Read a mask (y, x) that is stored as 0 and 1, or as a picture, also JPEG, with white above one half.

    Raises
    ------
    InputError
        If the file is missing or not a picture, or has neither form.
    """
    grey = _read(path, "L")
    brightest = int(grey.max(initial=0))
    if 1 < brightest <= HALF_WHITE:
        raise InputError(
            f"{path}: holds grey values up to {brightest}, which is neither a mask of 0 and 1 nor one of "
            "black and white; write 255 where the object is."
        )
    return grey > (0 if brightest <= 1 else HALF_WHITE)


def read_probabilities(path: Path) -> NDArray[np.float32]:
    """Read a predicted mask, grey or black and white, as (y, x) in [0, 1]."""
    grey = _read(path, "L")
    scale = 1 if grey.max(initial=0) <= 1 else 255
    return (grey / scale).astype(np.float32)


def read_size(path: Path) -> tuple[int, int]:
    """Return the shape (y, x) of a picture as it is read, without decoding it.

    Raises
    ------
    InputError
        If the file is missing or not a picture.
    """
    with open_picture(path) as picture:
        turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in TURNED
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a picture whose pixels fit into memory, and raise errors of Pillow as an `InputError`."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, such as micrographs of 8k x 8k pixels.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # From a file, Pillow would allocate any length that a damaged chunk claims.
            content = path.read_bytes()
            with Image.open(io.BytesIO(content)) as picture:
                claimed = 4 * picture.width * picture.height
                refuse_impossible_size(path, claimed=claimed, stored=len(content))
                yield picture
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        is_other = isinstance(error, UnidentifiedImageError)  # Its text contains an address in memory.
        text = "of no known kind" if is_other else " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as a picture ({text}). Export it again.") from error


def _read(path: Path, mode: str) -> NDArray[np.uint8]:
    with open_picture(path) as picture:
        # Pillow clips 16-bit grey to white instead of scaling it.
        if picture.mode.startswith("I"):
            values = np.asarray(picture, np.float64)
            top = 65535 if values.max(initial=0) > 255 else 255
            grey = Image.fromarray((values * 255 / top).clip(0, 255).astype(np.uint8))
            return np.asarray(grey.convert(mode))
        return np.asarray(ImageOps.exif_transpose(picture).convert(mode))


def write_picture(path: Path, values: NDArray[np.uint8] | NDArray[np.bool_]) -> None:
    """Write a (y, x) mask (black and white) or 8-bit picture as PNG."""
    pixels = np.where(values, 255, 0).astype(np.uint8) if values.dtype == bool else values
    with atomic_output(path, overwrite=True) as temporary, temporary.open("wb") as stream:
        Image.fromarray(pixels).save(stream, format="PNG")
