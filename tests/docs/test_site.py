"""The site is built without a warning, and no page of it asks another host for anything."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# What a browser fetches by itself; a link that is clicked is another thing.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*?\bsrc\s*=\s*[\"']?(?:https?:)?//"
    r"|<link\b(?![^>]*rel=\"?(?:canonical|next|prev))[^>]*?\bhref\s*=\s*[\"']?(?:https?:)?//"
    r"|@import\s+url\(\s*[\"']?(?:https?:)?//"
)


def built(folder: Path) -> Path:
    """The site, built without a warning."""
    site = folder / "site"
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    outcome = subprocess.run(build, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return site


@pytest.mark.slow
def test_the_site_is_whole_and_needs_no_other_host(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip('needs the extra: pip install "cryoseg[docs]"')
    site = built(tmp_path)
    pages = list(site.rglob("*.html"))
    assert len(pages) >= len(list((REPOSITORY / "docs").rglob("*.md")))
    strangers = [
        f"{page.relative_to(site)}: {found.group(0)}"
        for page in [*pages, *site.rglob("*.css")]
        for found in FETCHED.finditer(page.read_text())
    ]
    assert strangers == []
    assert not list(site.rglob("option_tables*")), "the hook is no page"
    segment = (site / "commands" / "segment.html").read_text()
    assert "--logit-threshold" in segment.split("<details", 1)[1], "the table of options is missing"


@pytest.mark.browser
def test_the_site_is_searched_from_a_folder_without_a_network(tmp_path: Path) -> None:
    if importlib.util.find_spec("material") is None:
        pytest.skip('needs the extra: pip install "cryoseg[docs]"')
    site = built(tmp_path)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        asked: list[str] = []
        faults: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto((site / "index.html").as_uri())
        page.click("input.md-search__input")
        page.locator("input.md-search__input").press_sequentially("negatives")
        page.wait_for_selector(".md-search-result__link", timeout=60_000)
        assert "negatives" in page.inner_text(".md-search-result__list").lower()
        page.goto((site / "commands" / "segment.html").as_uri())
        table = page.locator("details", has_text="All options of")
        assert not table.locator("table").is_visible()
        table.locator("summary").click()
        assert table.locator("table").is_visible()
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert faults == []


def test_pictures_are_few_and_small() -> None:
    pictures = list((REPOSITORY / "docs" / "pictures").iterdir())
    assert all(picture.suffix == ".png" for picture in pictures)
    assert sum(picture.stat().st_size for picture in pictures) < 800_000
    pages = "".join(page.read_text() for page in (REPOSITORY / "docs").rglob("*.md"))
    assert [picture.name for picture in pictures if f"pictures/{picture.name}" not in pages] == []
