"""The plugin in the real napari; `xvfb-run -a pytest -m napari tests/napari` runs it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoseg.config.pick import PickFormat
from cryoseg.io.images.volumes import read_tomogram, write_logits, write_mask
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.types import Geometry, Picks

# Where napari is part of the job, its absence is a failure and not a reason to pass over it.
if importlib.util.find_spec("napari") is None and not os.environ.get("CRYOSEG_TEST_NAPARI"):
    pytest.skip("napari is not installed (pip install 'cryoseg[napari]')", allow_module_level=True)

pytestmark = pytest.mark.napari

GEOMETRY = Geometry(voxel_size=(10.0, 8.0, 5.0), origin=(30.0, 20.0, -7.5))
PATIENCE_SECONDS = 300


@pytest.fixture
def viewer() -> Iterator[Any]:
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        refuse = pytest.fail if os.environ.get("CRYOSEG_TEST_NAPARI") else pytest.skip
        refuse("there is no display (run it with xvfb-run)")
    import napari

    viewer = napari.Viewer(show=True)
    yield viewer
    viewer.close()


@pytest.fixture
def panel(viewer: Any) -> Any:
    _, panel = viewer.window.add_plugin_dock_widget("cryoseg", "Segment and pick")
    return panel


def wait_until(is_done: Callable[[], bool]) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + PATIENCE_SECONDS
    while not is_done():
        assert time.monotonic() < end, "nothing happened"
        QApplication.processEvents()
        time.sleep(0.01)


def run(panel: Any, command: str, options: str | None = None) -> str:
    """Run a command by the panel, and return its log."""
    box = panel.run_box
    ended: list[int] = []
    box.process.ended.connect(ended.append)
    box.command.setCurrentText(command)
    if options is not None:
        box.options.setText(options)
    box.run.click()
    assert not box.run.isEnabled()
    wait_until(lambda: bool(ended))
    assert box.run.isEnabled()
    assert ended == [0], box.log.toPlainText()
    return box.log.toPlainText()


def test_the_manifest_is_valid() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", "--imports", "cryoseg"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "valid" in checked.stdout


def test_outputs_open_as_what_they_are_and_where_they_lie(viewer: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4, 6, 7)).astype(np.float32)
    write_logits(tmp_path / "ts.mrc", logits, GEOMETRY, label="test")
    write_logits(tmp_path / "ts_membrane_logits.mrc", logits, GEOMETRY, label="test")
    write_mask(tmp_path / "ts_membrane_mask.mrc", logits > 0, GEOMETRY, label="test")
    write_mask(tmp_path / "ts_membrane_components.mrc", np.full((4, 6, 7), 5), GEOMETRY, label="test")
    viewer.open(sorted(tmp_path.glob("*.mrc")), plugin="cryoseg")
    kinds = {layer.name: type(layer).__name__ for layer in viewer.layers}
    assert kinds == {
        "ts": "Image",
        "ts_membrane_logits": "Image",
        "ts_membrane_mask": "Labels",
        "ts_membrane_components": "Labels",
    }
    for layer in viewer.layers:
        assert layer.scale.tolist() == [10, 8, 5]
        assert layer.translate.tolist() == [30, 20, -7.5]
        assert [str(unit) for unit in layer.units] == ["angstrom"] * 3
    np.testing.assert_array_equal(viewer.layers["ts_membrane_mask"].data, logits > 0)
    # The value at a place in angstrom is that of the voxel there.
    place = (30 + 2 * 10.0, 20 + 3 * 8.0, -7.5 + 4 * 5.0)
    assert viewer.layers["ts"].world_to_data(place).tolist() == [2, 3, 4]
    assert "torch" not in sys.modules


def picks_for(flavor: PickFormat, dimensions: int) -> Picks:
    """Picks with all that a format holds."""
    rng = np.random.default_rng(1)
    centers = rng.integers(8, 22, (6, dimensions)).astype(np.float64)
    picks = Picks(centers=centers, shape=(30,) * dimensions, pixel_size=10.0, diameter_px=8.0)
    if "fractions" in flavor.traits.holds:
        picks = replace(picks, centers=centers + rng.choice([0.0, 0.25, 0.5], centers.shape))
    if "scores" in flavor.traits.holds:
        picks = replace(picks, scores=np.linspace(0.95, 0.2, 6).astype(np.float32))
    if "tracks" in flavor.traits.holds:
        picks = replace(picks, tracks=np.array([1, 1, 1, 2, 2, 2]))
    return picks


def header_of(path: Path) -> list[str]:
    """The names of the columns of a table."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    if path.suffix == ".csv":
        return lines[:1]
    return [line for line in lines if line.startswith("_")]


FLAVORS = [
    (flavor, dimensions)
    for flavor in PickFormat
    if flavor not in (PickFormat.STAR_RELION4, PickFormat.STAR_RELION5)  # which need the frames of RELION
    for dimensions in flavor.traits.dimensions
]


@pytest.mark.parametrize(("flavor", "dimensions"), FLAVORS, ids=lambda one: str(one))
def test_edited_picks_go_back_to_their_file_in_its_format(
    viewer: Any, panel: Any, tmp_path: Path, flavor: PickFormat, dimensions: int
) -> None:
    cube = Geometry(voxel_size=(10.0,) * 3, origin=(5.0, 6.0, 7.0))
    volume = np.random.default_rng(2).normal(size=(30,) * 3).astype(np.float32)
    write_logits(tmp_path / "ts.mrc", volume if dimensions == 3 else volume[:1], cube, label="test")
    frame = PickFrame(voxel_size=10.0, shape=(30,) * dimensions, diameter_angstrom=80.0)
    path = tmp_path / f"ts_particles{flavor.suffix}"
    picks = {"ts.mrc": picks_for(flavor, dimensions)}
    write_picks(path, picks, frame, flavor=flavor)
    # As `cryoseg convert` writes what it has read.
    write_picks(path, read_picks(path, frame), frame, flavor=flavor, overwrite=True)
    ((name, before),) = read_picks(path, frame).items()
    header = header_of(path)
    viewer.open(tmp_path / "ts.mrc", plugin="cryoseg")
    (layer,) = viewer.open(path, plugin="cryoseg")
    np.testing.assert_allclose(layer.data, before.centers, atol=1e-4)
    assert layer.translate.tolist() == [5, 6, 7][-dimensions:]

    layer.selected_data = {1}
    layer.remove_selected()
    moved = layer.data.copy()
    moved[0] += 2
    layer.data = moved
    new = [12.0, 13.0, 14.0][:dimensions]
    layer.add(new)
    panel.picks_box.points.setCurrentText(layer.name)
    panel.picks_box.save()

    ((again, after),) = read_picks(path, frame).items()
    assert again == name
    wanted = np.concatenate([before.centers[[0, 2, 3, 4, 5]], [new]])
    wanted[0] += 2
    found, wanted = (one[np.lexsort(one.T)] for one in (after.centers, wanted))
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    if before.scores is not None:
        kept = sorted([*before.scores[[0, 2, 3, 4, 5]].tolist(), 1.0])
        assert after.scores is not None
        np.testing.assert_allclose(np.sort(after.scores), kept, atol=1e-6)
    assert header_of(path) == header


def test_orientations_and_other_images_stay_in_the_file(viewer: Any, panel: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    turned = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    first = Picks(
        centers=rng.uniform(5, 20, (3, 3)),
        rotations=np.stack([turned, np.eye(3), turned]),
        shifts=rng.uniform(-1, 1, (3, 3)),
        columns={"rlnGroupNumber": np.array(["4", "5", "6"], object)},
    )
    other = replace(first, centers=first.centers + 1)
    path = tmp_path / "all.star"
    frame = PickFrame(voxel_size=10.0, shape=(30,) * 3, keep_shifts=True)
    write_picks(path, {"a.mrc": first, "b.mrc": other}, frame, flavor=PickFormat.STAR)
    for name in "ab":
        write_logits(
            tmp_path / f"{name}.mrc", np.zeros((30,) * 3), Geometry(voxel_size=(10.0,) * 3), label="test"
        )
    before = read_picks(path, frame)
    viewer.open([tmp_path / "a.mrc", tmp_path / "b.mrc"], plugin="cryoseg")
    layers = viewer.open(path, plugin="cryoseg")
    assert len(layers) == 2
    np.testing.assert_allclose(layers[0].data, before["a.mrc"].centers + before["a.mrc"].shifts, atol=1e-4)
    layers[0].selected_data = {0}
    layers[0].remove_selected()
    panel.picks_box.points.setCurrentText(layers[0].name)
    panel.picks_box.save()
    after = read_picks(path, frame)
    wanted = {"a.mrc": before["a.mrc"].take(np.array([1, 2])), "b.mrc": before["b.mrc"]}
    for name, picks in wanted.items():
        np.testing.assert_allclose(after[name].centers, picks.centers, atol=1e-4)
        np.testing.assert_allclose(after[name].shifts, picks.shifts, atol=1e-4)
        np.testing.assert_allclose(after[name].rotations, picks.rotations, atol=1e-4)
        assert list(after[name].columns["rlnGroupNumber"]) == list(picks.columns["rlnGroupNumber"])


def test_points_drawn_by_hand_are_saved_under_a_name(viewer: Any, panel: Any, tmp_path: Path) -> None:
    write_logits(tmp_path / "ts.mrc", np.zeros((9, 9, 9)), GEOMETRY, label="test")
    viewer.open(tmp_path / "ts.mrc", plugin="cryoseg")
    layer = viewer.add_points(np.array([[1.0, 2, 3]]), scale=(10, 8, 5), translate=(30, 20, -7.5))
    panel.picks_box.points.setCurrentText(layer.name)
    panel.picks_box.save(tmp_path / "mine.csv")
    ((_, picks),) = read_picks(tmp_path / "mine.csv").items()
    assert picks.centers.tolist() == [[1, 2, 3]]


def test_the_threshold_makes_the_mask_at_once(viewer: Any, panel: Any, tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(scale=3, size=(5, 20, 21)).astype(np.float32)
    path = tmp_path / "ts_membrane_logits.mrc"
    write_logits(path, logits, GEOMETRY, label="test")
    (tmp_path / "ts_membrane.json").write_text('{"settings": {"logit_threshold": -0.25}}')
    viewer.open(path, plugin="cryoseg")
    box, name = panel.threshold_box, "ts_membrane_logits mask"
    assert box.value.value() == -0.25
    assert name not in viewer.layers
    for threshold in (-2.0, 0.0, 1.5):
        box.slider.setValue(round(threshold / 0.05))
        wait_until(lambda: name in viewer.layers and not box._timer.isActive())
        np.testing.assert_array_equal(viewer.layers[name].data, logits > threshold)
        assert viewer.layers[name].translate.tolist() == [30, 20, -7.5]
    assert box.marked.text().startswith(f"{(logits > 1.5).mean():.2%}")


def small_tomogram(path: Path) -> Path:
    import cryoseg

    sample = Path(cryoseg.__file__).parent / "samples" / "sample_0000_tomogram.mrc"
    tomogram = read_tomogram(sample)
    write_logits(path, tomogram.data[:14, :96, :96], tomogram.geometry, label="test")
    return path


def test_the_panel_segments_filters_and_opens_what_it_made(viewer: Any, panel: Any, tmp_path: Path) -> None:
    viewer.open(small_tomogram(tmp_path / "ts.mrc"), plugin="cryoseg")
    steps: list[int] = []
    panel.run_box.progress.valueChanged.connect(steps.append)
    log = run(panel, "segment")
    assert "ts.mrc: done membrane" in log
    assert set(range(1, 14)) <= set(steps)
    out = tmp_path / "cryoseg"
    assert (out / "ts_membrane_logits.mrc").exists()
    names = [layer.name for layer in viewer.layers]
    assert names == ["ts", "ts_membrane_logits", "ts_membrane_post_processed_mask"]

    panel.threshold_box.slider.setValue(20)
    panel.run_box.command.setCurrentText("postprocess")
    panel.run_box.input.setCurrentText("ts_membrane_logits")
    panel.run_box.folder.setText(str(tmp_path / "filtered"))
    assert "--logit-threshold=1" in panel.run_box.arguments()
    run(panel, "postprocess", "--no-steps")
    written = read_tomogram(tmp_path / "filtered" / "ts_membrane_mask.mrc").data
    np.testing.assert_array_equal(written, read_tomogram(out / "ts_membrane_logits.mrc").data > 1)
    np.testing.assert_array_equal(written, viewer.layers["ts_membrane_logits mask"].data)
    assert "torch" not in sys.modules


def test_the_panel_picks_particles(viewer: Any, panel: Any, tmp_path: Path) -> None:
    import cryoseg

    sample = Path(cryoseg.__file__).parent / "samples" / "particles_0002_micrograph.mrc"
    (tmp_path / sample.name).write_bytes(sample.read_bytes())
    viewer.open(tmp_path / sample.name, plugin="cryoseg")
    assert viewer.layers[0].ndim == 2
    run(panel, "pick", "--particle-diameter 180 -f star -f csv")
    (points,) = [layer for layer in viewer.layers if type(layer).__name__ == "Points"]
    assert len(points.data) > 20
    assert points.scale.tolist() == viewer.layers[0].scale.tolist()
    assert "score" in points.features


def test_a_run_can_be_stopped_and_a_wrong_program_is_named(viewer: Any, panel: Any, tmp_path: Path) -> None:
    viewer.open(small_tomogram(tmp_path / "ts.mrc"), plugin="cryoseg")
    box = panel.run_box
    ended: list[int] = []
    box.process.ended.connect(ended.append)
    box.run.click()
    wait_until(lambda: "Model" in box.log.toPlainText())
    box.stop.click()
    wait_until(lambda: bool(ended))
    assert ended[0] != 0
    assert f"exit status {ended[0]}" in box.progress.format()
    box.program.setText("/no/such/program")
    box.run.click()
    wait_until(lambda: len(ended) == 2)
    assert "/no/such/program: cannot be started" in box.log.toPlainText()
    assert box.run.isEnabled()
