"""Which image a name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryoseg.errors import InputError
from cryoseg.io.picks.names import ImageName, distinct_names, image_stem, match_names


def images(*paths: str) -> list[ImageName]:
    return [ImageName(path, Path(path)) for path in paths]


def names(*texts: str, file: str = "/picks/all.star") -> list[ImageName]:
    return [ImageName(text, Path(file)) for text in texts]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a/TS_01.mrc", "TS_01"),
        ("TS_01.tomostar", "TS_01"),
        ("x.mrc.tomostar", "x"),
        ("ts_1.5A.mrc.gz", "ts_1.5A"),
        (r"..\tomostar\TS_01.tomostar", "TS_01"),
        ("tilts/TS_01.st:mrc", "TS_01"),
        ("12.10", "12.10"),
        ("007", "007"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert image_stem(name) == stem


@pytest.mark.parametrize(
    ("given", "known", "expected"),
    [
        (["TS_02.mrc", "TS_01"], ["TS_01.mrc", "TS_02.mrc"], [1, 0]),
        (["TS_01.tomostar"], ["TS_01_10.00Apx.mrc"], [0]),
        (["rec_TS_01.mrc"], ["TS_01.mrc"], [0]),
        (["grid2/TS_01.mrc", "grid1/TS_01.mrc"], ["/d/grid1/TS_01.mrc", "/d/grid2/TS_01.mrc"], [1, 0]),
        (["TS_01.rec", "TS_01.mrc"], ["/d/TS_01.mrc", "/d/TS_01.rec"], [1, 0]),
        # Of two names of one stem, the one in the folder of the only image is meant.
        (["grid1/TS_01.mrc", "grid2/TS_01.mrc"], ["/d/grid2/TS_01.mrc"], [None, 0]),
        # Folders of another machine do not matter where one image has the name.
        (["MotionCorr/job002/mic_01.mrc"], ["/home/me/mics/mic_01.mrc"], [0]),
        (["Position_1", "Position_1_2"], ["Position_1_2.mrc"], [None, 0]),
        (["Position_1"], ["Position_1_2.mrc"], [None]),
        (["7", "007"], ["007.mrc", "7.mrc"], [1, 0]),
    ],
)
def test_matches(given: list[str], known: list[str], expected: list[int | None]) -> None:
    assert match_names(names(*given), images(*known)) == expected


def test_a_file_of_picks_without_names_means_the_image_of_its_data_set() -> None:
    files = [ImageName("", Path(f"/d/Dataset{k}/picks/001.star")) for k in (2, 1)]
    known = images("/d/Dataset1/images/001.mrc", "/d/Dataset2/images/001.mrc")
    assert match_names(files, known) == [1, 0]


@pytest.mark.parametrize(
    ("file", "expected"), [("ts_01_ribosomes.star", 0), ("ts_01_b_ribosomes.star", 1), ("ts_01_2.star", None)]
)
def test_a_file_name_may_go_on_after_the_image(file: str, expected: int | None) -> None:
    known = images("ts_01.mrc", "ts_01_b.mrc")
    assert match_names([ImageName("", Path(file))], known) == [expected]


def test_an_ambiguous_name_is_refused_with_both_images() -> None:
    with pytest.raises(InputError, match=r"TS_01 may mean grid1/TS_01\.mrc or grid2/TS_01\.mrc"):
        match_names(names("TS_01"), images("grid1/TS_01.mrc", "grid2/TS_01.mrc"))


def test_two_names_that_may_mean_one_image_are_refused() -> None:
    with pytest.raises(InputError, match=r"grid1/TS_01 and grid2/TS_01 may both mean /x/TS_01\.mrc"):
        match_names(names("grid1/TS_01", "grid2/TS_01"), images("/x/TS_01.mrc"))


def test_distinct_names_have_as_many_folders_as_needed() -> None:
    paths = list(map(Path, ["/a/g1/ts/T.mrc", "/a/g2/ts/T.mrc", "/a/U.mrc", "/a/V.mrc", "/a/V.rec"]))
    assert distinct_names(paths) == ["g1/ts/T.mrc", "g2/ts/T.mrc", "U.mrc", "V.mrc", "V.rec"]
    assert distinct_names(paths, bare=True) == ["g1/ts/T", "g2/ts/T", "U", "V.mrc", "V.rec"]
    more = list(map(Path, ["g1/T.mrc", "g2/T.mrc", "g2/U.mrc", "/a/x/g1/T.mrc"]))
    assert distinct_names(more) == [f"{Path.cwd().name}/g1/T.mrc", "g2/T.mrc", "U.mrc", "x/g1/T.mrc"]


def test_one_path_given_twice_and_no_paths_end_the_search() -> None:
    assert distinct_names([Path("g/a.mrc")] * 2)[0].endswith("g/a.mrc")
    assert distinct_names([Path("/a")] * 2, names=["a", "a"]) == ["a", "a"]
    assert distinct_names([]) == []


def test_outputs_of_a_batch_have_folders_in_the_name_of_the_file() -> None:
    files = [ImageName("TS_01", Path(f"/o/grid{k}_TS_01_particles.star")) for k in (2, 1)]
    known = images("/d/grid1/TS_01.mrc", "/d/grid2/TS_01.mrc")
    assert match_names(files, known) == [1, 0]
