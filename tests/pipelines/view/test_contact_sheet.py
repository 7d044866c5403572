from pathlib import Path

import pytest
from PIL import Image

from cryoseg.config.batch import Shard
from cryoseg.errors import InputError
from cryoseg.events import Report, Row, Status
from cryoseg.pipelines.batches.report import sheet_path, write_contact_sheet


def row(folder: Path, name: str, status: Status) -> Row:
    preview = folder / f"{name}_membrane_preview.png"
    Image.new("RGB", (60, 40), (9, 9, 200)).save(preview)
    return Row(name=name, status=status, outputs=(folder / f"{name}_mask.mrc", preview), message="why")


def test_finished_kept_and_failed_inputs_have_a_tile(tmp_path: Path) -> None:
    rows = [row(tmp_path, one.value, one) for one in Status]
    path = write_contact_sheet(tmp_path / "contact_sheet.png", Report(rows=rows))
    assert path is not None
    with Image.open(path) as sheet:
        assert sheet.size == (8 + 2 * 248, 8 + 2 * 280)
        assert sheet.getpixel((128, 128)) == (9, 9, 200)
        # The third is the failed one, the fourth place is empty.
        assert sheet.getpixel((128, 280 + 128)) == (225, 227, 230)
        assert sheet.getpixel((248 + 128, 280 + 128)) == (255, 255, 255)


def test_nothing_to_show_is_no_sheet(tmp_path: Path) -> None:
    rows = [row(tmp_path, "a", Status.TO_DO)]
    assert write_contact_sheet(tmp_path / "contact_sheet.png", Report(rows=rows)) is None
    assert not (tmp_path / "contact_sheet.png").exists()


def test_a_damaged_preview_is_named(tmp_path: Path) -> None:
    rows = [row(tmp_path, "a", Status.DONE)]
    rows[0].outputs[1].write_bytes(b"no picture")
    with pytest.raises(InputError, match="a_membrane_preview"):
        write_contact_sheet(tmp_path / "contact_sheet.png", Report(rows=rows))


def test_tasks_of_an_array_have_a_sheet_each() -> None:
    assert sheet_path(Path("o")).name == "contact_sheet.png"
    assert sheet_path(Path("o"), Shard(index=2, count=4)).name == "contact_sheet_2_of_4.png"
