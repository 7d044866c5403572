"""Files that other programs read: copick and cryosparc-tools, in environments of their own.

`CRYOSEG_COPICK_PYTHON` and `CRYOSEG_CRYOSPARC_PYTHON` name the Python of an environment with the package.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from cryoseg.config.pick import PickFormat
from cryoseg.io.picks.picks import write_picks
from cryoseg.types import Picks

VOXEL = 8.0
PICKS = Picks(
    centers=np.random.default_rng(1).uniform(5, 90, (6, 3)),
    rotations=Rotation.random(6, random_state=2).as_matrix(),
    shifts=np.random.default_rng(3).normal(0, 2, (6, 3)),
    pixel_size=VOXEL,
)
COPICK = """
import json, sys, starfile
from copick.models import CopickPicksFile
from copick.util import formats
from copick.util.relion import relion_rows_to_poses
folder, voxel = sys.argv[1], float(sys.argv[2])
positions, angles, shifts, _ = formats.read_dynamo_table(f"{folder}/a.tbl")
dynamo = formats.dynamo_to_copick_transform(positions, angles, shifts, voxel)
positions, angles, _, shifts = formats.read_em_motivelist(f"{folder}/a.em", include_shifts=True)
motl = formats.em_to_copick_transform(positions, angles, voxel, shifts_px=shifts)
own = CopickPicksFile(**json.load(open(f"{folder}/a.json"))).points
table = starfile.read(f"{folder}/a.star")
rotations, offsets = relion_rows_to_poses(table)
found = {
    "dynamo": [dynamo[0].tolist(), dynamo[1].tolist()],
    "motl": [motl[0].tolist(), motl[1].tolist()],
    "copick": [[[p.location.x, p.location.y, p.location.z] for p in own], [p.transformation_ for p in own]],
    "relion": [rotations.tolist(), (-offsets).tolist()],
}
print(json.dumps(found))
"""
CRYOSPARC = """
import json, sys
from cryosparc.dataset import Dataset
data = Dataset.load(sys.argv[1])
print(json.dumps({name: data[name].tolist() for name in data.fields()}))
"""


def run(variable: str, script: str, *arguments: str) -> dict[str, list]:
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"{variable} names no Python")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", script, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_copick_reads_the_same_poses_from_four_formats(tmp_path: Path) -> None:
    for flavor in (PickFormat.DYNAMO, PickFormat.MOTL, PickFormat.COPICK, PickFormat.STAR):
        write_picks(tmp_path / f"a{flavor.suffix}", {"TS_01": PICKS}, flavor=flavor)
    found = run("CRYOSEG_COPICK_PYTHON", COPICK, str(tmp_path), str(VOXEL))
    assert PICKS.shifts is not None
    shifts = PICKS.shifts[:, ::-1] * VOXEL
    for name in ("dynamo", "motl", "copick"):
        locations, transformations = map(np.array, found[name])
        np.testing.assert_allclose(locations, PICKS.centers[:, ::-1] * VOXEL, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(transformations[:, :3, :3], PICKS.rotations, atol=1e-6, err_msg=name)
        np.testing.assert_allclose(transformations[:, :3, 3], shifts, atol=1e-3, err_msg=name)
    rotations, offsets = map(np.array, found["relion"])
    np.testing.assert_allclose(rotations, PICKS.rotations, atol=1e-6)
    np.testing.assert_allclose(offsets, shifts, atol=1e-3)


def test_cryosparc_tools_read_the_locations(tmp_path: Path) -> None:
    image = np.zeros((40, 80))
    image[10, 60] = 1
    picks = Picks(
        centers=np.argwhere(image).astype(float),
        scores=np.array([0.5], np.float32),
        shape=(40, 80),
        pixel_size=2.0,
    )
    name = "J1/000000000000000000042_m.mrc"
    write_picks(tmp_path / "a.cs", {name: picks}, flavor=PickFormat.CRYOSPARC_EXTERNAL)
    found = run("CRYOSEG_CRYOSPARC_PYTHON", CRYOSPARC, str(tmp_path / "a.cs"))
    assert found["location/micrograph_path"] == [name]
    assert found["location/micrograph_uid"] == [42]
    assert found["location/micrograph_shape"] == [[40, 80]]
    assert (found["location/center_x_frac"], found["location/center_y_frac"]) == ([0.75], [0.25])
    assert found["pick_stats/ncc_score"] == [0.5]
