from pathlib import Path

import pytest

from cryoseg.config.convert import ConvertConfig
from cryoseg.errors import InputError
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
    with pytest.raises(InputError, match="gives no scores"):
        convert_picks(tmp_path / "in.csv", tmp_path / "out.csv", ABOVE_HALF, frame=PickFrame())
