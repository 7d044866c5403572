from __future__ import annotations

import pytest

from cryoseg.errors import InputError
from cryoseg.io.inputs import listed_pixel_sizes, resolve_inputs
from cryoseg.io.picks.relion_images import read_image_list
from cryoseg.types import ListedImage

OPTICS = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 3.54\n2 1.77\n\n"
NAMES_ONLY = "data_micrographs\n\nloop_\n_rlnMicrographName #1\na.mrc\n"
MICROGRAPHS = "data_micrographs\n\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n"
GLOBAL = (
    "data_global\n\nloop_\n_rlnTomoName #1\n_rlnTomoTiltSeriesPixelSize #2\n_rlnTomoTomogramBinning #3\n"
    "_rlnTomoReconstructedTomogram #4\n"
)


def read(tmp_path, text):
    path = tmp_path / "list.star"
    path.write_bytes(text.encode())
    return [(one.name, one.pixel_size) for one in read_image_list(path)]


def test_pixel_size_of_a_micrograph_is_that_of_its_optics_group(tmp_path):
    # RELION 3.1 and later; the groups have different pixel sizes.
    text = OPTICS + MICROGRAPHS + "m/b.mrc 2\nm/a.mrc 1\nm/c.mrc 2\n"
    assert read(tmp_path, text) == [("m/b.mrc", 1.77), ("m/a.mrc", 3.54), ("m/c.mrc", 1.77)]


def test_numbers_of_optics_groups_are_compared_as_numbers(tmp_path):
    rows = "b.mrc 002\na.mrc 1\nc.mrc 2.0\nd.mrc fine\n"
    text = OPTICS.replace("1 3.54", "fine 5.0\n01 3.54") + MICROGRAPHS + rows
    assert read(tmp_path, text) == [("b.mrc", 1.77), ("a.mrc", 3.54), ("c.mrc", 1.77), ("d.mrc", 5.0)]
    series = "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnTomoTiltSeriesPixelSize #2\n01 1.5\n02 2.5\n\n"
    table = GLOBAL.replace("rlnTomoTiltSeriesPixelSize", "rlnOpticsGroup")
    assert read(tmp_path, series + table + "TS_01 2 4 a.mrc\nTS_02 1 4 b.mrc\n") == [
        ("a.mrc", 10.0),
        ("b.mrc", 6.0),
    ]


def test_windows_line_ends_and_quoted_names_with_blanks(tmp_path):
    text = OPTICS + MICROGRAPHS + "\"my grid/a b.mrc\" 1\n'it is.mrc' 2\n"
    expected = [("my grid/a b.mrc", 3.54), ("it is.mrc", 1.77)]
    assert read(tmp_path, text.replace("\n", "\r\n")) == expected


def test_relion30_has_one_table_with_detector_and_magnification(tmp_path):
    # 5 micrometers / 28248.587 = 1.77 A
    text = (
        "data_\n\nloop_\n_rlnMicrographName #1\n_rlnMagnification #2\n_rlnDetectorPixelSize #3\n"
        "Micrographs/a.mrc 28248.587571 5.0\n"
    )
    assert read(tmp_path, text) == [("Micrographs/a.mrc", pytest.approx(1.77))]


def test_relion30_without_any_pixel_size_leaves_it_to_the_headers(tmp_path):
    assert read(tmp_path, "data_\n\nloop_\n_rlnMicrographName #1\na.mrc\n") == [("a.mrc", None)]


def test_pixel_size_of_a_tomogram_is_that_of_the_tilt_series_times_the_binning(tmp_path):
    path = tmp_path / "tomograms.star"
    path.write_text(GLOBAL + "TS_01 1.35 10 rec/rec_TS_01.mrc\nTS_02 1.675 4.0 rec/rec_TS_02.mrc\n")
    assert read_image_list(path) == [
        ListedImage(name="rec/rec_TS_01.mrc", pixel_size=13.5, tomogram="TS_01"),
        ListedImage(name="rec/rec_TS_02.mrc", pixel_size=6.7, tomogram="TS_02"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (OPTICS + MICROGRAPHS + "a.mrc 3\n", "rlnOpticsGroup 3, which is not in the optics table"),
        (OPTICS + NAMES_ONLY, "no column rlnOpticsGroup. Add the column."),
        (
            OPTICS.replace("3.54", "many") + MICROGRAPHS + "a.mrc 1\n",
            "is 'many' in row 1",
        ),
        (OPTICS.replace("3.54", "0") + MICROGRAPHS + "a.mrc 1\n", "rlnMicrographPixelSize is 0"),
        (OPTICS + MICROGRAPHS + "a.mrc 1\na.mrc 2\n", "a.mrc the pixel sizes 3.54 A and 1.77 A"),
        (OPTICS, "names no images"),
        ("data_global\n\nloop_\n_rlnTomoName #1\nTS_01\n", "names no images"),
        (
            OPTICS + MICROGRAPHS + "a b.mrc 1\n",
            "has 3 values for 2 columns; a value with blanks needs quotes",
        ),
        (OPTICS + MICROGRAPHS, "its table has no rows"),
    ],
)
def test_bad_lists_get_one_sentence(tmp_path, text, words):
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert words in str(error.value)
    assert "list.star" in str(error.value)


def test_names_are_relative_to_the_first_folder_above_the_list_in_which_they_exist(tmp_path):
    for name in ("project/rec/TS_01.mrc", "rec/TS_01.mrc", "project/rec/TS_03.mrc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    star = tmp_path / "project/Tomograms/job007/tomograms.star"
    star.parent.mkdir(parents=True)
    rows = "TS_03 2 4 rec/TS_03.mrc\nTS_02 2 4 rec/TS_02.mrc\nTS_01 2 5 rec/TS_01.mrc\n"
    star.write_text(GLOBAL + rows)
    items = resolve_inputs([star])
    project = tmp_path / "project"
    assert [item.path.name for item in items] == ["TS_03.mrc", "TS_02.mrc", "TS_01.mrc"]
    assert [item.error is None for item in items] == [True, False, True]
    assert items[2].listed.project == project
    assert listed_pixel_sizes(items) == {project / "rec/TS_03.mrc": 8.0, project / "rec/TS_01.mrc": 10.0}


def test_a_link_to_a_list_finds_the_project_of_the_list(tmp_path):
    project = tmp_path / "project"
    star = project / "Select" / "job004" / "micrographs.star"
    for file, text in ((star, NAMES_ONLY.replace("a.mrc", "m/a.mrc")), (project / "m" / "a.mrc", "x")):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.star").symlink_to(star)
    (tmp_path / "good").symlink_to(star.parent)
    for given in ("elsewhere/mine.star", "good/micrographs.star"):
        (item,) = resolve_inputs([tmp_path / given])
        assert item.error is None
        assert item.path.resolve() == project / "m" / "a.mrc"
        assert item.listed.project == project
