import base64
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cryoseg.config.segment import ViewConfig
from cryoseg.errors import ConfigError, InputError, OutputError
from cryoseg.events import Event, Warn
from cryoseg.io.images.volumes import write_logits, write_mask
from cryoseg.pipelines.view.server import ViewSources
from cryoseg.pipelines.view.volume import write_view, write_view_scene
from cryoseg.types import Geometry

GEOMETRY = Geometry(voxel_size=(10.0, 10.0, 10.0), origin=(5.0, 6.0, 7.0))


def payload(page: Path, name: str) -> bytes:
    found = re.search(rf'id="data-{name}">([^<]*)<', page.read_text(encoding="utf-8"))
    assert found, name
    return gzip.decompress(base64.b64decode(found[1]))


def parameters_of(page: Path) -> dict:
    found = re.search(r'id="parameters">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found
    return json.loads(found[1])


@pytest.fixture
def sources(tmp_path: Path) -> ViewSources:
    rng = np.random.default_rng(0)
    shape = (7, 30, 31)
    logits = rng.normal(scale=3, size=shape).astype(np.float32)
    write_logits(tmp_path / "ts 1.mrc", rng.normal(size=shape).astype(np.float32), GEOMETRY, label="test")
    write_logits(tmp_path / "ts 1_membrane_logits.mrc", logits, GEOMETRY, label="test")
    write_mask(tmp_path / "mask.mrc", logits > 2, GEOMETRY, label="test")
    (tmp_path / "picks.csv").write_text("x,y,z,score\n3,4,5,0.5\n10,11,6,0.9\n")
    return ViewSources(
        tomogram=tmp_path / "ts 1.mrc",
        logits=tmp_path / "ts 1_membrane_logits.mrc",
        mask=tmp_path / "mask.mrc",
        picks=tmp_path / "picks.csv",
    )


def test_a_page_carries_everything_and_fetches_nothing(sources: ViewSources, tmp_path: Path) -> None:
    result = write_view(sources, tmp_path / "page.html", ViewConfig(binning=2, pick_diameter_angstrom=100))
    text = result.path.read_text(encoding="utf-8")
    assert not re.search(r"https?:|src=|<link|@import", text)
    assert text.count("<!--") == 0
    parameters = parameters_of(result.path)
    assert (parameters["shape"], parameters["fileShape"], parameters["binning"]) == (
        [4, 15, 16],
        [7, 30, 31],
        [2, 2, 2],
    )
    assert parameters["picks"]["centers"] == [[5, 4, 3], [6, 11, 10]]
    assert parameters["picks"]["diameter"] == [10, 10, 10]
    assert any("steps of 0.0625" in note for note in parameters["notes"])
    assert any(note.startswith("Binning 2 x 2 x 2") for note in parameters["notes"])
    for name, length in (("tomogram", 4 * 15 * 16), ("mask", 4 * 15 * 16), ("logits-header", 1024)):
        assert len(payload(result.path, name)) == length
    assert result.megabytes == pytest.approx(result.path.stat().st_size / 1e6)


def test_without_binning_the_page_has_the_mask_of_every_threshold(
    sources: ViewSources, tmp_path: Path
) -> None:
    result = write_view(sources, tmp_path / "page.html")
    assert result.binning == (1, 1, 1)
    assert sources.logits is not None
    logits = np.fromfile(sources.logits, np.float32, offset=1024)
    rounded = np.frombuffer(payload(result.path, "logits"), np.int8) * np.float32(result.logit_step)
    for threshold in (-4.0, -0.5, -0.25, 0.0, 3.0625):
        np.testing.assert_array_equal(rounded > threshold, logits > threshold)


def test_equal_inputs_give_equal_pages(sources: ViewSources, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_view(sources, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_the_command_is_quoted_and_the_threshold_recorded(sources: ViewSources, tmp_path: Path) -> None:
    (tmp_path / "ts 1_membrane.json").write_text('{"settings": {"logit_threshold": -0.25}}')
    logits = write_view(sources, tmp_path / "page.html")
    parameters = parameters_of(logits.path)["logits"]
    assert parameters["command"] == f"cryoseg postprocess '{sources.logits}'"
    assert parameters["threshold"] == -0.25


@pytest.mark.parametrize(
    ("settings", "steps", "min_slices"),
    [
        ('{"preset": "v2"}', ["thin-noise", "bridges"], 10),
        ('{"postprocess": ["bridges"]}', ["bridges"], 1),
        ('{"preset": "v1"}', ["thin-noise"], 10),
    ],
)
def test_the_steps_are_those_of_the_record(
    sources: ViewSources, tmp_path: Path, settings: str, steps: list[str], min_slices: int
) -> None:
    (tmp_path / "ts 1_membrane.json").write_text(f'{{"settings": {settings}}}')
    parameters = parameters_of(write_view(sources, tmp_path / "page.html").path)
    assert parameters["logits"]["steps"] == steps
    assert parameters["minSlices"] == min(min_slices, parameters["fileShape"][0])
    assert any("The step bridges" in note for note in parameters["notes"]) == ("bridges" in steps)


def test_a_scene_for_chimerax_shows_the_same_files(sources: ViewSources, tmp_path: Path) -> None:
    (tmp_path / "scenes").mkdir()
    write_view_scene(sources, tmp_path / "scenes" / "a.cxc", ViewConfig(logit_threshold=-0.25))
    lines = (tmp_path / "scenes" / "a.cxc").read_text().splitlines()
    assert [line for line in lines if line.startswith("open ")] == [
        'open "../ts 1.mrc" format mrc',
        'open "../ts 1_membrane_logits.mrc" format mrc',
        'open "../mask.mrc" format mrc',
        'open "a.cmm"',
    ]
    assert "volume #2 style surface step 1 color #4f97d9 level -0.25" in lines
    assert "volume #3 origin 7,6,5" in lines
    assert 'x="37.000" y="46.000" z="55.000"' in (tmp_path / "scenes" / "a.cmm").read_text()
    with pytest.raises(OutputError, match="exists"):
        write_view_scene(sources, tmp_path / "scenes" / "a.cxc")


def test_a_name_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    name = tmp_path / "a<!--style--><b>.mrc"
    write_logits(name, np.zeros((2, 4, 4), np.float32), GEOMETRY, label="test")
    result = write_view(ViewSources(tomogram=name), tmp_path / "page.html")
    assert "<b>" not in result.path.read_text(encoding="utf-8")
    assert parameters_of(result.path)["title"] == name.name


def test_large_volumes_are_binned_until_the_page_is_small_enough(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 255, (20, 400, 400)).astype(np.int16)
    write_logits(tmp_path / "big.mrc", data, GEOMETRY, label="test")
    result = write_view(
        ViewSources(tomogram=tmp_path / "big.mrc"), tmp_path / "page.html", ViewConfig(max_megabytes=1)
    )
    assert result.binning == (2, 2, 2)
    assert result.megabytes < 1
    with pytest.raises(InputError, match=r"--bin 2"):
        write_view(
            ViewSources(tomogram=tmp_path / "big.mrc"),
            tmp_path / "other.html",
            ViewConfig(max_megabytes=1, binning=1),
        )
    assert not (tmp_path / "other.html").exists()


def test_a_picture_is_one_slice(tmp_path: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20)).save(tmp_path / "grid.png")
    (tmp_path / "grid.csv").write_text("x,y\n3,4\n")
    said: list[Event] = []
    result = write_view(
        ViewSources(tomogram=tmp_path / "grid.png", picks=tmp_path / "grid.csv"),
        tmp_path / "page.html",
        ViewConfig(binning=2),
        on_event=said.append,
    )
    parameters = parameters_of(result.path)
    assert (parameters["shape"], parameters["binning"]) == ([1, 10, 10], [1, 2, 2])
    assert parameters["picks"]["centers"] == [[0, 4, 3]]
    assert any(isinstance(event, Warn) and "pixel size" in event.text for event in said)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits": "mask.mrc"}, "holds a mask, not logits. Pass it with --mask"),
        ({"logits": "small.mrc"}, "2 x 4 x 4 voxels"),
        ({"mask": "small.mrc"}, "Give the file of this tomogram"),
        ({"tomogram": "nan.mrc"}, "NaN"),
        ({"picks": "none.csv"}, "no such file"),
    ],
)
def test_what_does_not_fit_is_refused(
    sources: ViewSources, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    write_logits(tmp_path / "small.mrc", np.ones((2, 4, 4), np.float32), GEOMETRY, label="test")
    write_logits(tmp_path / "nan.mrc", np.full((7, 30, 31), np.nan, np.float32), GEOMETRY, label="test")
    paths = {key: tmp_path / name for key, name in change.items()}
    with pytest.raises(InputError, match=message):
        write_view(ViewSources(**{"tomogram": sources.tomogram, **paths}), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_a_page_is_kept_unless_told(sources: ViewSources, tmp_path: Path) -> None:
    write_view(sources, tmp_path / "page.html")
    with pytest.raises(OutputError, match="--overwrite"):
        write_view(sources, tmp_path / "page.html")
    write_view(sources, tmp_path / "page.html", overwrite=True)
    with pytest.raises(InputError, match=r"ends in \.html"):
        write_view(sources, tmp_path / "page.mrc")


@pytest.mark.parametrize("wrong", [{"binning": 0}, {"max_megabytes": 0.0}, {"pixel_size": -1.0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ViewConfig(**wrong)


@pytest.fixture
def blocks(tmp_path: Path) -> ViewSources:
    """A mask with components of 27, 8 and 1 voxels, and a table of the first two."""
    volume = np.zeros((6, 12, 12), bool)
    volume[1:4, 1:4, 1:4] = volume[2:4, 8:10, 8:10] = True
    volume[0, 11, 0] = True
    write_mask(tmp_path / "mask.mrc", volume, GEOMETRY, label="test")
    write_logits(tmp_path / "tomo.mrc", np.zeros(volume.shape, np.float32), GEOMETRY, label="test")
    (tmp_path / "table.csv").write_text("component,voxels,area_nm2\n1,27,5.5\n2,8,\n")
    return ViewSources(
        tomogram=tmp_path / "tomo.mrc", mask=tmp_path / "mask.mrc", measures=tmp_path / "table.csv"
    )


def test_components_have_their_rows_of_the_table(blocks: ViewSources, tmp_path: Path) -> None:
    result = write_view(blocks, tmp_path / "page.html", ViewConfig(binning=1))
    mask = parameters_of(result.path)["mask"]
    assert mask["command"] == f"cryoseg postprocess {tmp_path}/mask.mrc --no-steps"
    components = mask["components"]
    assert components["columns"] == ["voxels", "area_nm2"]
    assert components["rows"] == [["27", "5.5"], ["8", ""], ["1", ""]]
    labels = np.frombuffer(payload(result.path, "mask"), np.uint8).reshape(6, 12, 12)
    assert np.bincount(labels.ravel())[1:].tolist() == [27, 8, 1]
    assert [int(labels[tuple(place)]) for place in components["places"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("component,voxels\n1,26\n", "is not the table of mask.mrc"),
        ("component,area\n1,26\n", "has no column voxels"),
    ],
)
def test_a_table_of_another_mask_is_refused(
    blocks: ViewSources, tmp_path: Path, table: str, message: str
) -> None:
    (tmp_path / "table.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        write_view(blocks, tmp_path / "page.html")


def test_measures_need_their_mask(blocks: ViewSources, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Pass --mask too"):
        write_view(ViewSources(tomogram=blocks.tomogram, measures=blocks.measures), tmp_path / "page.html")


def test_many_components_have_two_bytes_each(tmp_path: Path) -> None:
    volume = np.zeros((4, 40, 40), bool)
    volume[1, ::2, ::2] = True
    write_mask(tmp_path / "mask.mrc", volume, GEOMETRY, label="test")
    sources = ViewSources(tomogram=tmp_path / "mask.mrc", mask=tmp_path / "mask.mrc")
    result = write_view(sources, tmp_path / "page.html", ViewConfig(binning=1))
    labels = np.frombuffer(payload(result.path, "mask"), np.uint16)
    assert sorted(labels[labels > 0]) == list(range(1, 401))
