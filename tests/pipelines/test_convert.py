from pathlib import Path
from typing import Any

import pytest

from cryoseg.config.convert import ConvertConfig, Downsampling
from cryoseg.errors import InputError
from cryoseg.events import Note, Warn
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import read_picks
from cryoseg.pipelines.convert import convert_picks

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
