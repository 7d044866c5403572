from pathlib import Path

import pytest

from cryoseg.errors import InputError
from cryoseg.io.pick_frame import PickFrame
from cryoseg.io.picks import read_picks
from cryoseg.pipelines.convert import convert_picks


def test_picks_above_a_score_are_kept(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x,y,z,score\n1,2,3,0.5\n4,5,6,0.9\n7,8,9,0.25\n")
    count = convert_picks(tmp_path / "in.csv", tmp_path / "out.csv", frame=PickFrame(), score_threshold=0.5)
    assert count == 1
    (picks,) = read_picks(tmp_path / "out.csv").values()
    assert picks.centers.tolist() == [[6, 5, 4]]


def test_a_threshold_without_scores_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("x,y,z\n1,2,3\n")
    with pytest.raises(InputError, match="gives no scores"):
        convert_picks(tmp_path / "in.csv", tmp_path / "out.csv", frame=PickFrame(), score_threshold=0.5)
