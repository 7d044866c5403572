"""Projects of the real copick: tomograms as inputs, segmentations and picks as outputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest

from cryoseg.config.common import StoredOutputs
from cryoseg.config.segment import PostprocessConfig
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Status
from cryoseg.io.images.volumes import read_mask, read_tomogram, write_logits
from cryoseg.io.inputs import output_stems, resolve_inputs
from cryoseg.io.picks.copick_project import CopickOutput, find_members
from cryoseg.io.picks.frame import PickFrame
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.segment.postprocess import postprocess_files
from cryoseg.types import Geometry, Picks

SAMPLE = Path(__file__).parents[3] / "src" / "cryoseg" / "samples" / "sample_0000_tomogram.mrc"
if os.environ.get("CRYOSEG_TEST_COPICK") != "1":
    pytest.importorskip("copick", reason="copick, which needs zarr 2, is not installed")
import copick  # noqa: E402


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two runs with a corner of the sample at 12 A."""
    config = tmp_path / "config.json"
    objects = [
        {"name": "membrane", "is_particle": False, "label": 1},
        {"name": "ribosome", "is_particle": True, "label": 2, "radius": 120},
    ]
    about = {
        "name": "test",
        "version": "1.0.0",
        "config_type": "filesystem",
        "overlay_root": f"local://{tmp_path / 'overlay'}",
        "overlay_fs_args": {"auto_mkdir": True},
        "user_id": "someone",
        "session_id": "0",
        "pickable_objects": objects,
    }
    config.write_text(json.dumps(about))
    root = copick.from_file(str(config))
    data = read_tomogram(SAMPLE).data[:12, 64:128, :64].astype(np.float32)
    for number in (1, 2):
        spacing = root.new_run(f"TS_{number}").new_voxel_spacing(12.0)
        spacing.new_tomogram("wbp").from_numpy(data * number)
    return config


def run_of(config: Path, name: str) -> copick.models.CopickRun:
    return copick.from_file(str(config)).get_run(name)


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def require_command_of_copick() -> None:
    if not [one for one in entry_points(group="copick.inference.commands") if one.name == "cryoseg"]:
        pytest.skip("the installed cryoseg declares no command of copick")


def test_tomograms_are_found_by_run_type_and_voxel_size(project: Path) -> None:
    every = find_members(f"copick://{project}?tomogram=wbp@12")
    assert [path.name for path in every] == ["wbp.zarr"] * 2
    assert find_members(f"copick://{project}?run=TS_1&tomogram=wbp") == every[:1]
    assert find_members(f"copick://{project}?run=TS_2,TS_1&tomogram=w*@*") == every
    tomogram = read_tomogram(every[1])
    np.testing.assert_array_equal(tomogram.data, 2 * read_tomogram(every[0]).data)
    assert tomogram.geometry.voxel_size == (12, 12, 12)
    assert list(output_stems(every).values()) == ["TS_1_wbp", "TS_2_wbp"]
    assert [item.path for item in resolve_inputs([f"copick://{project}?tomogram=wbp@12"])] == every


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?run=TS_3&tomogram=wbp", "no such tomogram; its runs are TS_1, TS_2"),
        ("?tomogram=wbp@13", "no such tomogram"),
        ("?run=TS_1", "write copick://config.json"),
        ("?run=TS_1&tomogramm=wbp", "write copick://config.json"),
    ],
)
def test_what_is_not_there_is_a_failed_row(project: Path, query: str, words: str) -> None:
    (item,) = resolve_inputs([f"copick://{project}{query}"])
    assert words in str(item.error)


def test_a_missing_or_damaged_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        find_members(f"copick://{tmp_path}/none.json?tomogram=wbp")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match="copick cannot use the project"):
        find_members(f"copick://{tmp_path}/bad.json?tomogram=wbp")


def test_targets_are_read(project: Path) -> None:
    inputs = [f"copick://{project}?tomogram=wbp@12"]
    found = CopickOutput.parse("membrane", inputs, kind="picks", overwrite=False)
    assert (found.config, found.name, found.user, found.session) == (project, "membrane", "cryoseg", "1")
    assert CopickOutput.parse(found.uri, ["a.mrc"], kind="picks", overwrite=False) == found
    for text, words in (("membrane:a", "write NAME:USER/SESSION"), ("m:a_b/1", "write NAME:USER/SESSION")):
        with pytest.raises(ConfigError, match=words):
            CopickOutput.parse(text, inputs, kind="picks", overwrite=False)
    with pytest.raises(ConfigError, match="the inputs name 0 copick projects"):
        CopickOutput.parse("membrane", ["a.mrc"], kind="picks", overwrite=False)


def test_segmentations_are_post_processed_into_another_session(project: Path, tmp_path: Path) -> None:
    mask = np.zeros((12, 64, 64), np.uint8)
    mask[:, 10, :] = 1
    mask[3, 40, 40] = 1  # on one slice, which thin-noise removes
    run_of(project, "TS_1").new_segmentation(12.0, "membrane", "0", user_id="someone").from_numpy(mask)
    source = f"copick://{project}?segmentation=membrane:someone/0@12"

    def process(target: str, *, overwrite: bool = False) -> tuple[Status, str]:
        written = StoredOutputs(copick=target)
        batch = Batch(overwrite=overwrite)
        out = tmp_path / target.replace(":", "_").replace("/", "_")
        (row,) = postprocess_files([source], out, PostprocessConfig(), written=written, batch=batch).rows
        return row.status, row.message

    assert process("membrane:cryoseg/1")[0] is Status.DONE
    (stored,) = run_of(project, "TS_1").get_segmentations(
        name="membrane", user_id="cryoseg", session_id="1", voxel_size=12.0
    )
    assert stored.numpy().sum() == 12 * 64
    np.testing.assert_array_equal(stored.numpy(), np.where(mask.sum(0) > 1, mask, 0))
    # The annotation that was there is kept unless --overwrite is given.
    status, message = process("membrane:someone/0")
    assert status is Status.FAILED
    assert "has segmentation membrane:someone/0 already" in message
    status, message = process("actin:cryoseg/1")
    assert "has no object actin" in message
    assert process("membrane:someone/0", overwrite=True)[0] is Status.DONE


def test_segment_gives_the_same_mask_as_on_files(project: Path, tmp_path: Path) -> None:
    run(
        tmp_path,
        *("cryoseg", "segment", f"copick://{project.name}?run=TS_1&tomogram=wbp@12", "-o", "out"),
        *("--model", "membrane-tiny", "--copick", "membrane:cryoseg/1", "--post-process", "-q"),
    )
    (stored,) = run_of(project, "TS_1").get_segmentations(name="membrane", user_id="cryoseg")
    data = read_tomogram(SAMPLE).data[:12, 64:128, :64]
    write_logits(tmp_path / "plain.mrc", data, Geometry(voxel_size=(12.0,) * 3), label="x")
    run(tmp_path, "cryoseg", "segment", "plain.mrc", "--model", "membrane-tiny", "--post-process", "-q")
    plain = read_mask(tmp_path / "plain_membrane_post_processed_mask.mrc").data
    assert plain.any()
    np.testing.assert_array_equal(stored.numpy(), plain)
    record = json.loads((tmp_path / "out" / "TS_1_wbp_membrane.json").read_text())
    assert record["copick"] == f"copick://{project}?segmentation=membrane:cryoseg/1"
    # The record repeats the run, and replaces what it stored.
    run(tmp_path, *("cryoseg", "rerun", "out/TS_1_wbp_membrane.json", "-o", "again", "--overwrite", "-q"))


def test_picks_are_stored_in_angstrom(project: Path) -> None:
    path = find_members(f"copick://{project}?run=TS_2&tomogram=wbp@12")[0]
    centers = np.array([[1.0, 2.0, 3.0], [10.5, 20.0, 30.25]])
    picks = Picks(centers=centers, scores=np.array([0.9, 0.5], np.float32))
    inputs = [f"copick://{project}?tomogram=wbp"]
    target = CopickOutput.parse("ribosome:cryoseg/1", inputs, kind="picks", overwrite=False)
    target.check(path)
    target.write_picks(path, picks, PickFrame(voxel_size=12.0))
    (stored,) = run_of(project, "TS_2").get_picks(object_name="ribosome", user_id="cryoseg", session_id="1")
    positions, matrices = stored.numpy()
    np.testing.assert_allclose(positions, centers[:, ::-1] * 12)
    np.testing.assert_array_equal(matrices, np.tile(np.eye(4), (2, 1, 1)))
    np.testing.assert_allclose(stored.scores(), [0.9, 0.5], atol=1e-5)
    assert run_of(project, "TS_1").get_picks(object_name="ribosome") == []


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """An untrained model that finds picks anywhere."""
    torch = pytest.importorskip("torch")
    from cryoseg.config.cet_pick import Arch, Specimen, ZPool
    from cryoseg.methods.cet_pick.detector import DetectorSettings, save_detector
    from cryoseg.methods.cet_pick.network import build

    torch.manual_seed(0)
    settings = DetectorSettings(
        arch=Arch.UNET_4,
        specimen=Specimen.GLOBULAR,
        particle_diameter_angstrom=200.0,
        voxel_size=(12.0, 12.0, 12.0),
        z_compression=1,
        z_pool=ZPool.MEAN,
        score_threshold=0.0,
    )
    path = tmp_path / "m.safetensors"
    save_detector(path, build(settings.arch).state_dict(), settings, {})
    return path


@pytest.mark.parametrize("through_copick", [False, True])
def test_pick_stores_the_picks_that_it_writes(
    project: Path, detector: Path, tmp_path: Path, *, through_copick: bool
) -> None:
    options = ("-m", detector.name, "-f", "csv", "--max-picks", "5", "-q", "--no-preview")
    target = "ribosome:cryoseg/1"
    if through_copick:
        require_command_of_copick()
        inputs = ("-c", project.name, "-r", "TS_1", "-i", "wbp@12", "-o", target)
        run(tmp_path, "copick.cli.cli", "inference", "cryoseg", "pick", *inputs, *options)
    else:
        uri = f"copick://{project.name}?run=TS_1&tomogram=wbp@12"
        run(tmp_path, "cryoseg", "pick", uri, *options, "--copick", target)
    (stored,) = run_of(project, "TS_1").get_picks(object_name="ribosome", user_id="cryoseg")
    table = np.genfromtxt(tmp_path / "TS_1_wbp_particles.csv", delimiter=",", names=True)
    expected = np.stack([table["x"], table["y"], table["z"]], axis=1) * 12
    assert len(expected) == 5
    np.testing.assert_allclose(stored.numpy()[0], expected, atol=0.06)
    assert run_of(project, "TS_2").get_picks(object_name="ribosome") == []


def test_mid_surfaces_are_stored_as_a_mesh(project: Path, tmp_path: Path) -> None:
    pytest.importorskip("fast_simplification")
    mask = np.zeros((32, 64, 64), np.uint8)
    mask[:, 20:23] = 1  # a flat membrane in the middle of which y is 21
    run_of(project, "TS_1").new_segmentation(12.0, "membrane", "0", user_id="someone").from_numpy(mask)
    source = f"copick://{project.name}?segmentation=membrane:someone/0@12"
    arguments = ("cryoseg", "measure", source, "--copick", "membrane:cryoseg/1", "-o", "out", "-q")
    run(tmp_path, *arguments)
    (stored,) = run_of(project, "TS_1").get_meshes(object_name="membrane", user_id="cryoseg", session_id="1")
    vertices = np.concatenate([one.vertices for one in stored.mesh.geometry.values()])
    np.testing.assert_allclose(vertices[:, 1], 21 * 12, atol=2)
    assert vertices[:, 2].max() > 29 * 12  # z is the last coordinate
    assert vertices[:, 0].max() > 61 * 12
    record = json.loads(next((tmp_path / "out").glob("*_measures.json")).read_text())
    assert record["copick"] == f"copick://{project}?mesh=membrane:cryoseg/1"
    again = subprocess.run(
        [sys.executable, "-m", *arguments[:-2], "other"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode != 0
    assert "has mesh membrane:cryoseg/1 already" in "".join((again.stdout + again.stderr).split("\n"))


def test_a_project_on_another_computer_is_refused(project: Path) -> None:
    about = {**json.loads(project.read_text()), "overlay_root": "memory://cryoseg-test"}
    about["overlay_fs_args"] = {}
    project.write_text(json.dumps(about))
    spacing = copick.from_file(str(project)).new_run("TS_9").new_voxel_spacing(12.0)
    spacing.new_tomogram("wbp").from_numpy(np.zeros((4, 8, 8), np.float32))
    with pytest.raises(InputError, match=r"run TS_9 lies on memory.*copick sync tomograms -c .*config\.json"):
        find_members(f"copick://{project}?tomogram=wbp@12")


def test_copick_calls_cryoseg(project: Path, tmp_path: Path) -> None:
    require_command_of_copick()
    mask = np.zeros((12, 64, 64), np.uint8)
    mask[:, 10, :] = 1
    run_of(project, "TS_1").new_segmentation(12.0, "membrane", "0", user_id="someone").from_numpy(mask)
    arguments = ["inference", "cryoseg", "postprocess", "-c", project.name, "-i", "membrane:someone/0"]
    run(
        tmp_path,
        *("copick.cli.cli", *arguments, "-o", "membrane:cryoseg/2", "--output-dir", "out", "--no-steps"),
    )
    (stored,) = run_of(project, "TS_1").get_segmentations(name="membrane", user_id="cryoseg")
    np.testing.assert_array_equal(stored.numpy(), mask)
