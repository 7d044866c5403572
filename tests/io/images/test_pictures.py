from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryoseg.errors import InputError
from cryoseg.io.images.pictures import (
    Split,
    read_picture_list,
    read_picture_mask,
    read_probabilities,
    read_rgb,
    read_size,
)


def pair(folder: Path, name: str) -> None:
    for sub in ("images", "masks"):
        (folder / sub).mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "images" / f"{name}.jpg")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "masks" / f"{name}.png")


def write_list(folder: Path, *lines: str, header: str = "image_name,train_type,mask_name") -> Path:
    path = folder / "list.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_a_published_list_is_read_whatever_the_order_of_its_columns(tmp_path: Path) -> None:
    pair(tmp_path, "a")
    pair(tmp_path, "b")
    absolute = tmp_path / "images" / "b.jpg"
    path = write_list(
        tmp_path,
        "masks/a.png,train,images/a.jpg,x",
        f"masks/b.png,test,{absolute},y",
        header="mask_name,train_type,image_name,note",
    )
    rows = read_picture_list(path)
    assert [(row.image.name, row.mask.name, row.split) for row in rows] == [
        ("a.jpg", "a.png", Split.TRAIN),
        ("b.jpg", "b.png", Split.TEST),
    ]


@pytest.mark.parametrize(
    ("header", "line", "message"),
    [
        ("image,train_type,mask", "images/a.jpg,train,masks/a.png", "lacks image_name, mask_name"),
        ("", "", "columns none"),
        (None, "images/a.jpg,train,masks/b.png", "line 2: picture a.jpg and mask b.png have different names"),
        (None, "images/a.jpg,training,masks/a.png", "'training'; write train, val or test"),
        (None, "images/c.jpg,train,masks/c.png", "there is no file"),
        (None, "images/a.jpg,train,", "names no mask"),
        (None, "", "has no rows"),
    ],
)
def test_broken_lists_are_refused_by_line(
    tmp_path: Path, header: str | None, line: str, message: str
) -> None:
    pair(tmp_path, "a")
    pair(tmp_path, "b")
    known = {} if header is None else {"header": header}
    with pytest.raises(InputError, match=message):
        read_picture_list(write_list(tmp_path, line, **known))
    with pytest.raises(InputError, match="cannot be read as CSV"):
        read_picture_list(tmp_path / "absent.csv")


def test_pictures_and_masks_of_any_mode(tmp_path: Path) -> None:
    values = np.array([[0, 1, 127, 128], [255, 200, 3, 0]], np.uint8)
    Image.fromarray(values).save(tmp_path / "grey.png")
    Image.fromarray(np.minimum(values, 1)).save(tmp_path / "ones.png")
    Image.fromarray(values > 100).save(tmp_path / "bits.png")
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(np.dstack([values] * 4)).save(tmp_path / "clear.png")
    np.testing.assert_array_equal(read_picture_mask(tmp_path / "grey.png"), values > 127)
    np.testing.assert_array_equal(read_picture_mask(tmp_path / "ones.png"), values > 0)
    np.testing.assert_array_equal(read_picture_mask(tmp_path / "bits.png"), values > 100)
    np.testing.assert_array_equal(read_picture_mask(tmp_path / "deep.png"), values > 127)
    np.testing.assert_allclose(read_probabilities(tmp_path / "grey.png"), values / 255, rtol=1e-6)
    np.testing.assert_array_equal(read_rgb(tmp_path / "clear.png"), np.dstack([values] * 3))
    Image.fromarray(np.minimum(values, 90)).save(tmp_path / "dark.png")
    with pytest.raises(InputError, match="grey values up to 90"):
        read_picture_mask(tmp_path / "dark.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_rgb(tmp_path / "text.png")


def test_pictures_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    rgb = np.zeros((4, 6, 3), np.uint8)
    rgb[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by a quarter, clockwise
    Image.fromarray(rgb).save(tmp_path / "upright.png", exif=exif)
    turned = read_rgb(tmp_path / "upright.png")
    assert turned.shape == (6, 4, 3)
    assert turned[0, 3].tolist() == [255] * 3
    assert read_size(tmp_path / "upright.png") == (6, 4)
    Image.fromarray(rgb).save(tmp_path / "plain.png")
    assert read_size(tmp_path / "plain.png") == (4, 6)
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_size(tmp_path / "absent.png")
