"""One HTML file that shows a volume: markup, style, scripts and voxels, nothing fetched."""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

# In this order: later ones use what earlier ones define.
SCRIPTS = ("voxels.js", "components.js", "command.js", "mrc.js", "planes.js", "page.js")


@dataclass(frozen=True, kw_only=True)
class VolumePage:
    """What a page shows.

    Attributes
    ----------
    title
        Name of the tomogram.
    facts
        What the scripts need to know, for JSON; `page.js` lists its keys.
    volumes
        (z, y, x) of one byte each: `tomogram` uint8, and where there are any, `logits` int8 and
        `mask` uint8 of 0 and 1.
    blobs
        Other bytes by name, such as the headers of the files that the page can save.
    """

    title: str
    facts: Mapping[str, Any]
    volumes: Mapping[str, NDArray[np.int8] | NDArray[np.uint8]]
    blobs: Mapping[str, bytes]


def render(page: VolumePage) -> str:
    """The page as HTML text.

    Voxels are gzip streams in base64, which browsers since 2023 can unpack without a library.
    """
    packed = {name: _packed(data.tobytes()) for name, data in page.volumes.items()}
    packed |= {name: _packed(data) for name, data in page.blobs.items()}
    data = "\n".join(
        f'<script type="text/plain" id="data-{name}">{text}</script>' for name, text in packed.items()
    )
    # `<` could end the script element that holds the JSON.
    facts = json.dumps(page.facts, allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
    scripts = "\n".join(_asset(name) for name in SCRIPTS)
    parts = {
        "title": html.escape(page.title),
        "style": _asset("page.css"),
        "facts": facts,
        "data": data,
        "script": f'"use strict";\n{scripts}',
    }
    text = _asset("page.html")
    for name, content in parts.items():
        head, marker, tail = text.partition(f"<!--{name}-->")
        assert marker, f"page.html has no place for {name}"
        text = head + content + tail
    return text


def _packed(data: bytes) -> str:
    # A fixed time stamp: equal inputs give equal pages.
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode("ascii")


def _asset(name: str) -> str:
    return files("cryoseg.view").joinpath("page", name).read_text(encoding="utf-8")
