from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config import SegmentRequest
from cryoseg.events import Report, Row, Status
from cryoseg.pipelines.segment import files as segment


@pytest.mark.parametrize(("options", "sheet"), [([], False), (["--contact-sheet"], True)])
def test_a_contact_sheet_is_made_of_previews(
    options: list[str], sheet: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)

    def stand_in(inputs: list[str], output_dir: Path, request: SegmentRequest, **settings: Any) -> Report:
        assert request.outputs.preview is sheet
        preview = output_dir / "a_membrane_preview.png"
        Image.new("RGB", (300, 200), (9, 9, 200)).save(preview)
        return Report(rows=[Row(name="a.mrc", status=Status.DONE, outputs=(preview,))])

    monkeypatch.setattr(segment, "segment_files", stand_in)
    result = CliRunner().invoke(app, ["segment", "a.mrc", "-o", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "contact_sheet.png").exists() is sheet
