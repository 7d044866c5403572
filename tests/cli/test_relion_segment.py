from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.io.picks.star import read_tables

TOMOGRAMS = """
data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
_rlnTomoReconstructedTomogram #4
TS_01 3.0 4 rec/ts_01.mrc
"""


def test_masks_are_outputs_that_relion_can_use(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("rec").mkdir()
    with mrcfile.new("rec/ts_01.mrc", np.random.default_rng(0).normal(size=(4, 64, 64)).astype("f4")) as file:
        file.voxel_size = 1.0  # not set: the list gives 12 A
    Path("tomograms.star").write_text(TOMOGRAMS)
    job = Path("External/job003")
    words = ["relion", "segment", "--in_tomograms", "tomograms.star", "--o", f"{job}/", "--j", "1"]
    outcome = CliRunner().invoke(app, [*words, "--model", str(model), "--device", "cpu"])
    assert outcome.exit_code == 0, outcome.output
    ((_, nodes),) = read_tables(job / "RELION_OUTPUT_NODES.star")
    assert nodes.to_numpy().tolist() == [[f"{job}/ts_01_membrane_mask.mrc", "Mask3D.mrc.relion"]]
    assert json.loads((job / "ts_01_membrane.json").read_text())["pixel_size"]["angstrom"] == 12.0
    assert (job / "RELION_JOB_EXIT_SUCCESS").exists()
