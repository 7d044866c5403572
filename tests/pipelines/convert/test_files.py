from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cryoseg.config.convert import ConvertConfig, Downsampling
from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError
from cryoseg.events import Note, Warn
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks, write_picks
from cryoseg.pipelines.convert.files import convert_picks
from cryoseg.types import Picks

ABOVE_HALF = ConvertConfig(score_threshold=0.5)


def test_picks_above_a_score_are_kept(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x,y,z,score\n1,2,3,0.5\n4,5,6,0.9\n7,8,9,0.25\n")
    count = convert_picks(tmp_path / "in.csv", tmp_path / "out.csv", ABOVE_HALF, frame=PickFrame())
    assert count == 1
    (picks,) = read_picks(tmp_path / "out.csv").values()
    assert picks.centers.tolist() == [[6, 5, 4]]


def test_the_name_of_what_pick_wrote_is_that_of_the_image(tmp_path: Path) -> None:
    (tmp_path / "mic_1_particles.box").write_text("10\t20\t8\t8\n")
    convert_picks(tmp_path / "mic_1_particles.box", tmp_path / "out.star", frame=PickFrame())
    assert list(read_picks(tmp_path / "out.star")) == ["mic_1"]


def test_a_threshold_without_scores_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x,y,z\n1,2,3\n")
    with pytest.raises(InputError, match="holds no scores"):
        convert_picks(tmp_path / "in.csv", tmp_path / "out.csv", ABOVE_HALF, frame=PickFrame())


def told_by(tmp_path: Path, name: str, text: str, out: str, config: ConvertConfig, **frame: Any) -> list[str]:
    (tmp_path / name).write_text(text)
    events: list[str] = []
    convert_picks(
        tmp_path / name,
        tmp_path / out,
        config,
        frame=PickFrame(**frame),
        on_event=lambda event: events.append(event.text) if isinstance(event, Warn | Note) else None,
    )
    return events


TOPAZ = "image_name\tx_coord\ty_coord\tscore\nmic\t10\t20\t1.5\n"


@pytest.mark.parametrize(
    ("text", "downsampling", "expected"),
    [
        (TOPAZ, None, [160, 80]),
        (TOPAZ, Downsampling.AVERAGE, [163.5, 83.5]),
        ("x,y\n10,20\n", None, [163.5, 83.5]),
        ("x,y\n10,20\n", Downsampling.FOURIER, [160, 80]),
    ],
)
def test_scaling_follows_the_way_of_downsampling(
    tmp_path: Path, text: str, downsampling: Downsampling | None, expected: list[float]
) -> None:
    config = ConvertConfig(scale=8, downsampling=downsampling)
    told = told_by(tmp_path, "a.txt", text, "o.csv", config)
    (picks,) = read_picks(tmp_path / "o.csv").values()
    assert picks.centers.tolist() == [expected]
    assert "pixel i of the smaller image lies at" in told[0]


def test_points_outside_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    text = "x,y,z\n1,2,3\n400,2,3\n500,2,3\n"
    (told,) = told_by(tmp_path, "a.csv", text, "o.star", ConvertConfig(), shape=(20, 64, 64))
    assert (
        "2 of 3 points lie outside the volume of 20 x 64 x 64 voxels (z, y, x), the first at 3 x 2 x 400"
        in told
    )


@pytest.mark.parametrize(
    ("out", "words"),
    [
        (
            "o.box",
            "box cannot hold the following, which is lost: scores, filaments, fractions of a voxel, psi.",
        ),
        ("o.cbox", "cbox cannot hold the following, which is lost: filaments, psi."),
    ],
)
def test_what_a_format_does_not_hold_is_named(tmp_path: Path, out: str, words: str) -> None:
    text = "x,y,score,track,psi\n1.5,2,0.5,1,90\n"
    (told,) = told_by(tmp_path, "a.csv", text, out, ConvertConfig(diameter_px=20))
    assert words in told


ORIENTED = (
    "data_particles\nloop_\n_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n_rlnAngleRot\n"
    "_rlnAngleTilt\n_rlnAnglePsi\n_rlnOriginXAngst\n_rlnAngleTiltPrior\n_rlnExtra\n{rows}"
)
ROWS = "a 10 20 5 30 40 50 8 90 x\nb 1 2 3 0 90 0 0 90 y\n"


@pytest.mark.parametrize(("axes", "is_odd"), [("xy", False), ("z", True), ("xyz", True)])
def test_orientations_follow_mirrored_axes(tmp_path: Path, axes: str, is_odd: bool) -> None:
    text = ORIENTED.format(rows=ROWS)
    told = told_by(
        tmp_path, "a.star", text, "o.star", ConvertConfig(flip=axes), shape=(20, 64, 64), voxel_size=8
    )
    before, after = (
        read_picks(tmp_path / name, PickFrame(voxel_size=8))["a"] for name in ("a.star", "o.star")
    )
    assert before.rotations is not None
    assert after.rotations is not None
    mirror = np.diag([-1.0 if axis in axes else 1.0 for axis in "xyz"])
    # The particle's own axes, seen in the mirrored image; those of the reference are mirrored too if one is.
    expected = mirror @ before.rotations[0] @ (mirror if is_odd else np.eye(3))
    np.testing.assert_allclose(after.rotations[0], expected, atol=1e-6)
    assert any("a reference that is mirrored" in text for text in told) is is_odd
    assert any("not carried over to a mirrored image: rlnAngleTiltPrior" in text for text in told)
    assert "rlnAngleTiltPrior" not in after.columns
    assert after.columns["rlnExtra"].tolist() == ["x"]


def test_shifts_are_added_or_kept_and_the_message_says_which(tmp_path: Path) -> None:
    text = ORIENTED.format(rows=ROWS)
    told = told_by(tmp_path, "a.star", text, "o.star", ConvertConfig(), voxel_size=8)
    assert told == ["a.star: shifts were added to the coordinates of 1 of 2 points."]
    assert read_picks(tmp_path / "o.star")["a"].centers.tolist() == [[5, 20, 9]]
    told = told_by(tmp_path, "a.star", text, "k.star", ConvertConfig(keep_shifts=True), voxel_size=8)
    assert told == ["a.star: shifts are kept beside the coordinates."]
    kept = read_picks(tmp_path / "k.star", PickFrame(voxel_size=8, keep_shifts=True))
    assert kept["a"].centers.tolist() == [[5, 20, 10]]
    assert kept["a"].shifts is not None
    assert kept["a"].shifts.tolist() == [[0, 0, -1]]
    # Of half the size: voxels and shifts in voxels are twice as many.
    config = ConvertConfig(keep_shifts=True, scale=2, downsampling=Downsampling.FOURIER)
    told_by(tmp_path, "k.star", (tmp_path / "k.star").read_text(), "s.star", config, voxel_size=4)
    scaled = read_picks(tmp_path / "s.star", PickFrame(voxel_size=4))["a"]
    assert scaled.centers.tolist() == [[10, 40, 18]]


def test_data_sets_of_cryosparc_keep_sizes_and_numbers(tmp_path: Path) -> None:
    picks = Picks(
        centers=np.array([[10.0, 60], [20, 30]]),
        scores=np.array([0.9, 0.1], np.float32),
        shape=(40, 80),
        pixel_size=2.0,
    )
    names = ("J1/000000000000000000042_m.mrc", "J1/000000000000000000043_n.mrc")
    write_picks(tmp_path / "a.cs", dict.fromkeys(names, picks), flavor=PickFormat.CRYOSPARC_EXTERNAL)
    for target, config in (("b.cs", ABOVE_HALF), ("c.cs", ConvertConfig(flip_y=True))):
        convert_picks(tmp_path / "a.cs", tmp_path / target, config, frame=PickFrame())
    before, chosen, flipped = (np.load(tmp_path / f"{name}.cs") for name in "abc")
    assert chosen.tobytes() == before[::2].tobytes()
    # Row 10 of 40 becomes row 29.
    np.testing.assert_allclose(flipped["location/center_y_frac"], [29 / 40, 19 / 40] * 2, atol=1e-6)


def test_numbers_of_tomograms_are_told(tmp_path: Path) -> None:
    told = told_by(tmp_path, "a.star", ORIENTED.format(rows=ROWS), "o.tbl", ConvertConfig(), voxel_size=8)
    assert "o.tbl numbers the tomograms: a is 1, b is 2 (table map: o.doc)." in told
    assert list(read_picks(tmp_path / "o.tbl")) == ["a", "b"]


@pytest.mark.parametrize("middle", [PickFormat.DYNAMO, PickFormat.MOTL, PickFormat.STOPGAP, PickFormat.PEET])
def test_shifts_and_orientations_go_through_other_formats(tmp_path: Path, middle: PickFormat) -> None:
    start, between, end = (tmp_path / name for name in ("a.star", f"b{middle.suffix}", "c.star"))
    start.write_text(ORIENTED.format(rows="a 10 20 5 30 40 50 8 90 x\na 1 2 3 0 90 0 0 90 y\n"))
    frame = PickFrame(voxel_size=8)
    for source, target, flavor in ((start, between, middle), (between, end, None)):
        config = ConvertConfig(flavor=flavor, keep_shifts=True, name="a")
        convert_picks(source, target, config, frame=frame)
    before, after = (
        read_picks(path, PickFrame(voxel_size=8, keep_shifts=True))["a"] for path in (start, end)
    )
    for field in ("centers", "rotations", "shifts"):
        np.testing.assert_allclose(getattr(after, field), getattr(before, field), atol=1e-4, err_msg=field)


def test_what_only_some_images_have_is_named(tmp_path: Path) -> None:
    head = "loop_\n_rlnTomoName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n"
    blocks = f"data_a\n{head}_rlnClassNumber\na 1 2 3 1\ndata_b\n{head}_rlnExtra\nb 4 5 6 x\n"
    told = told_by(tmp_path, "a.star", blocks, "o.star", ConvertConfig())
    assert told == ["a.star: only some images have the following, which is lost: classes, rlnExtra."]
    assert "<NA>" not in (tmp_path / "o.star").read_text()
