"""The page of `cryoseg view` in Debian's Chromium; `pytest -m browser` runs it."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config import PostprocessStep
from cryoseg.config.segment import PostprocessConfig, ViewConfig
from cryoseg.core.masks.postprocess import remove_thin_noise
from cryoseg.io.images.volumes import read_tomogram, write_logits, write_mask
from cryoseg.io.picks.picks import read_picks
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.measure.files import measure_files
from cryoseg.pipelines.segment.postprocess import postprocess_files
from cryoseg.pipelines.view.server import ViewSources
from cryoseg.pipelines.view.volume import write_view
from cryoseg.types import Geometry

pytestmark = pytest.mark.browser

SHAPE = (23, 61, 50)
GEOMETRY = Geometry(voxel_size=(12.0, 12.0, 12.0), origin=(10.0, 20.0, 30.0))
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    # Where the browser is part of the job, its absence is a failure and not a reason to pass over it.
    refuse = pytest.fail if os.environ.get("CRYOSEG_TEST_BROWSER") else pytest.skip
    try:
        from playwright import sync_api as playwright
    except ImportError:
        refuse("playwright is not installed (pip install playwright)")
    found = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
    if found is None:
        refuse("chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"], timeout=PATIENCE_MS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A noisy volume with logits whose components are of every height, and a page binned by 2."""
    folder = tmp_path_factory.mktemp("view")
    rng = np.random.default_rng(4)
    noise = ndimage.gaussian_filter(rng.normal(size=SHAPE), 1.6)
    logits = (4 * noise / noise.std() - 3).astype(np.float32)
    data = rng.normal(size=SHAPE).astype(np.float32)
    write_logits(folder / "ts_1.mrc", data, GEOMETRY, label="test")
    write_logits(folder / "ts_1_membrane_logits.mrc", logits, GEOMETRY, label="test")
    points = "\n".join(f"{x},{y},{z},{score}" for x, y, z, score in [(20, 30, 11, 0.2), (40, 9, 11, 0.8)])
    (folder / "picks.csv").write_text(f"x,y,z,score\n{points}\n")
    write_view(
        ViewSources(
            tomogram=folder / "ts_1.mrc",
            logits=folder / "ts_1_membrane_logits.mrc",
            picks=folder / "picks.csv",
        ),
        folder / "page.html",
        ViewConfig(binning=2, logit_threshold=-0.5, min_slices=6, pick_diameter_angstrom=120),
    )
    return folder


@pytest.fixture
def page(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, ready; the test fails if the browser complained."""
    folder = request.getfixturevalue(getattr(request, "param", "folder"))
    complaints: list[str] = []
    context = chromium.new_context(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    tab = context.new_page()
    tab.set_default_timeout(PATIENCE_MS)
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on(
        "request",
        lambda request: request.url.startswith(("file:", "blob:")) or complaints.append(request.url),
    )
    tab.goto((folder / "page.html").as_uri())
    tab.wait_for_selector("html[data-ready=yes]", state="attached")
    yield tab
    context.close()
    assert complaints == []


def settled(page: Any) -> None:
    """Wait until what was chosen is drawn."""
    page.wait_for_function("() => !waiting.frame")


def choose(page: Any, slider: str, value: float) -> None:
    page.evaluate(
        "([id, value]) => { const input = find(id); input.value = value;"
        " input.dispatchEvent(new Event('input')); }",
        [slider, value],
    )
    settled(page)


def picture(page: Any, plane: str) -> str:
    return page.evaluate(f"document.querySelector('#plane-{plane} canvas').toDataURL()")


def saved(page: Any, button: str, path: Path) -> np.ndarray:
    with page.expect_download() as download:
        page.click(f"#{button}")
    download.value.save_as(path)
    tomogram = read_tomogram(path)
    assert tomogram.geometry.voxel_size == pytest.approx((24.0, 24.0, 24.0))
    assert tomogram.geometry.origin == GEOMETRY.origin
    return np.asarray(tomogram.data)


def test_the_saved_mask_is_what_postprocess_makes_of_the_saved_logits(page: Any, tmp_path: Path) -> None:
    logits = saved(page, "save-logits", tmp_path / "binned.mrc")
    assert logits.shape == (12, 31, 25)
    left = set()
    for threshold, slices in [(-0.5, 6), (-2.0, 1), (0.3, 3), (-1.3, 5), (0.0, 9), (-7.0, 4), (7.8, 2)]:
        page.fill("#threshold-number", str(threshold))
        page.fill("#min-slices-number", str(slices))
        page.press("#min-slices-number", "Enter")
        settled(page)
        mask = saved(page, "save-mask", tmp_path / "mask.mrc") != 0
        # The binning along z is 2.
        config = PostprocessConfig(
            steps=(PostprocessStep.THIN_NOISE,), logit_threshold=threshold, min_slices=-(-slices // 2)
        )
        report = postprocess_files(
            [tmp_path / "binned.mrc"], tmp_path / "out", config, batch=Batch(overwrite=True)
        )
        assert report.exit_status == 0
        wanted = read_tomogram(tmp_path / "out" / "binned_post_processed_mask.mrc").data != 0
        np.testing.assert_array_equal(mask, wanted, err_msg=f"{threshold}, {slices}")
        assert f"{int(mask.sum())} voxels of the page" in page.text_content("#marked")
        left.add(int(mask.sum()))
    assert len(left) > 4


def test_the_filter_alone_changes_the_mask(page: Any) -> None:
    counts = []
    for slices in (1, 4, 10, 20):
        choose(page, "min-slices", slices)
        counts.append(page.evaluate("view.mask.reduce((sum, value) => sum + value, 0)"))
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[2]


def test_every_plane_scrolls_and_follows_the_position(page: Any) -> None:
    for number, plane in enumerate("zyx"):
        before = picture(page, plane)
        caption = page.text_content(f"#plane-{plane} figcaption")
        page.hover(f"#plane-{plane} canvas")
        page.mouse.wheel(0, 100)
        page.wait_for_function(
            "([plane, old]) => document.querySelector(`#plane-${plane} figcaption`).textContent !== old",
            arg=[plane, caption],
        )
        settled(page)
        assert picture(page, plane) != before
        # Page voxel k of a binning of 2 is centered between two voxels of the file.
        middle = [12, 31, 25][number] // 2
        assert page.text_content(f"#plane-{plane} figcaption") == f"{plane} {2 * (middle + 1) + 0.5:g}"


def test_threshold_opacity_and_contrast_are_seen_at_once(page: Any) -> None:
    for slider, value in [("threshold", 1.5), ("opacity", 0), ("black", 100), ("white", 140)]:
        before = picture(page, "z")
        choose(page, slider, value)
        assert picture(page, "z") != before, slider
    # With no overlay to be seen the threshold changes the count and not the picture.
    choose(page, "score", 1)
    before, marked = picture(page, "z"), page.text_content("#marked")
    choose(page, "threshold", -1)
    assert picture(page, "z") == before
    assert page.text_content("#marked") != marked


def test_picks_go_by_score(page: Any) -> None:
    assert page.text_content("#picked") == "2 of 2 picks"
    before = picture(page, "z")
    choose(page, "score", 0.5)
    assert page.text_content("#picked") == "1 of 2 picks"
    assert picture(page, "z") != before


def test_the_readout_counts_voxels_and_angstrom_of_the_file(page: Any, folder: Path) -> None:
    page.keyboard.press("Home")
    settled(page)
    assert page.text_content("#at-voxel") == "24.5, 30.5, 0.5"
    assert page.text_content("#at-angstrom") == "294.0, 366.0, 6.0"
    logits = read_tomogram(folder / "ts_1_membrane_logits.mrc").data
    mean = logits[0:2, 30:32, 24:26].mean()
    shown = float(page.text_content("#at-logit"))
    assert 0 <= shown - mean < 0.0625
    box = page.locator("#plane-z canvas").bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    assert page.text_content("#at-voxel") == "0.5, 0.5, 0.5"


def test_the_keyboard_reaches_everything(page: Any) -> None:
    def caption(plane: str) -> str:
        settled(page)
        return page.text_content(f"#plane-{plane} figcaption")

    assert caption("z") == "z 12.5"
    for key, wanted in [("ArrowUp", "z 14.5"), ("ArrowDown", "z 12.5"), ("End", "z 22"), ("Home", "z 0.5")]:
        page.keyboard.press(key)
        assert caption("z") == wanted, key
    page.keyboard.press("3")
    page.keyboard.press("Shift+ArrowUp")
    assert caption("x") == "x 44.5"
    page.keyboard.press("]")
    page.keyboard.press("]")
    page.keyboard.press("[")
    page.keyboard.press(".")
    settled(page)
    assert "--logit-threshold -0.4375 --post-process-min-slices 7 " in page.text_content("#command")
    for key, name in [("o", "overlay"), ("p", "picks")]:
        before = picture(page, "z")
        page.keyboard.press(key)
        settled(page)
        assert not page.is_checked(f"#show-{name}")
        assert key == "p" or picture(page, "z") != before
    before = picture(page, "z")
    page.keyboard.press("+")
    settled(page)
    assert picture(page, "z") != before
    page.keyboard.press("0")
    settled(page)
    assert picture(page, "z") == before


def test_the_copied_command_does_the_same_to_the_whole_file(
    page: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    choose(page, "threshold", -0.25)
    choose(page, "score", 0.5)
    page.click("#copy")
    page.wait_for_function("() => find('copied').textContent !== ''")
    wanted = (
        f"cryoseg postprocess {folder}/ts_1_membrane_logits.mrc --logit-threshold -0.25 "
        f"--post-process-min-slices 6 -o filtered\n"
        f"cryoseg convert {folder}/picks.csv {folder}/picks_chosen.star "
        f"--tomogram {folder}/ts_1.mrc --score-threshold 0.5"
    )
    assert page.text_content("#command") == wanted
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == wanted
    monkeypatch.chdir(tmp_path)
    for line in copied.splitlines():
        outcome = CliRunner().invoke(app, shlex.split(line)[1:])
        assert outcome.exit_code == 0, outcome.output
    logits = read_tomogram(folder / "ts_1_membrane_logits.mrc").data
    mask = read_tomogram(tmp_path / "filtered" / "ts_1_membrane_post_processed_mask.mrc").data
    np.testing.assert_array_equal(mask != 0, remove_thin_noise(logits > -0.25, min_slices=6))
    (picks,) = read_picks(folder / "picks_chosen.star").values()
    assert picks.centers.tolist() == [[11, 9, 40]]


def test_the_page_says_how_it_was_made(page: Any) -> None:
    notes = page.text_content("#notes")
    assert "Binning 2 x 2 x 2" in notes
    assert "steps of 0.0625" in notes
    assert page.evaluate("document.querySelector('aside').scrollWidth <= 21 * 16")
    for plane in "zyx":
        box = page.locator(f"#plane-{plane} canvas").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 1200 - 21 * 16
        assert box["y"] + box["height"] <= 800


@pytest.fixture(scope="module")
def shells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mask of three shells of different sizes with its measures, and their page."""
    folder = tmp_path_factory.mktemp("shells")
    places = np.stack(np.mgrid[:24, :30, :60], -1)
    mask = np.zeros(places.shape[:3], bool)
    for radius, x in ((10, 12), (7, 34), (5, 52)):
        mask |= np.abs(np.linalg.norm(places - [12, 15, x], axis=-1) - radius) < 1.5
    write_mask(folder / "ts_mask.mrc", mask, GEOMETRY, label="test")
    write_logits(folder / "ts.mrc", np.zeros(mask.shape, np.float32), GEOMETRY, label="test")
    measure_files([folder / "ts_mask.mrc"], folder)
    sources = ViewSources(
        tomogram=folder / "ts.mrc", mask=folder / "ts_mask.mrc", measures=folder / "ts_mask_measures.csv"
    )
    write_view(sources, folder / "page.html")
    return folder


@pytest.mark.parametrize("page", ["shells"], indirect=True)
def test_clicks_drop_components_and_the_command_does_the_same_to_the_file(
    page: Any, shells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert page.text_content("#kept") == "3 of 3 components kept"
    assert not page.is_visible("#command")
    before = picture(page, "z")
    page.click("tr[data-number='2'] td:last-child")
    settled(page)
    assert picture(page, "z") != before
    assert not page.is_checked("tr[data-number='2'] input")
    row = page.text_content("#component-row")
    assert "area nm2" in row
    assert "diameter nm" in row
    # A double click on the left shell, and the key d on the right one.
    canvas = page.locator("#plane-z canvas").bounding_box()
    canvas_voxel = canvas["width"] / 60
    page.keyboard.press("1")
    page.evaluate("() => { view.at = [12, 15, 12]; soon(); }")
    page.mouse.dblclick(canvas["x"] + 2.5 * canvas_voxel, canvas["y"] + 15.5 * canvas_voxel)
    settled(page)
    assert not page.is_checked("tr[data-number='1'] input")
    page.click("tr[data-number='3'] button")
    page.keyboard.press("d")
    settled(page)
    assert page.text_content("#kept") == "0 of 3 components kept"
    page.keyboard.press("d")
    settled(page)
    wanted = f"cryoseg postprocess {shells}/ts_mask.mrc --no-steps --keep-components 3 -o chosen"
    assert page.text_content("#command") == wanted
    page.click("tr[data-number='1'] td:last-child")
    settled(page)
    wanted = f"cryoseg postprocess {shells}/ts_mask.mrc --no-steps --drop-components 2 -o chosen"
    assert page.text_content("#command") == wanted
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, shlex.split(wanted)[1:]).exit_code == 0
    (written,) = (tmp_path / "chosen").glob("*.mrc")
    mask = read_tomogram(shells / "ts_mask.mrc").data != 0
    mask[:, :, 24:44] = False
    np.testing.assert_array_equal(read_tomogram(written).data != 0, mask)
    page.click("#keep-all")
    settled(page)
    assert page.text_content("#kept") == "3 of 3 components kept"
