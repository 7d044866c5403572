"""Render a self-contained HTML page that shows a volume: markup, style, scripts and voxels."""

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

# Scripts in the order of their dependencies.
SCRIPTS = ("voxels.js", "components.js", "choice.js", "command.js", "mrc.js", "planes.js", "page.js")


@dataclass(frozen=True, kw_only=True)
class VolumePage:
    """The content of a page.

    Attributes
    ----------
    title
        Name of the tomogram.
    parameters
        Parameters of the scripts, for JSON; `page.js` lists them.
    volumes
        (z, y, x) arrays: `tomogram` (uint8), and optionally `logits` (int8) and `mask` (0 or 1, or numbers of
        components in one or two bytes).
    blobs
        Other bytes by name, such as the headers of files that the page can save.
    """

    title: str
    parameters: Mapping[str, Any]
    volumes: Mapping[str, NDArray[np.int8] | NDArray[np.uint8] | NDArray[np.uint16]]
    blobs: Mapping[str, bytes]


def render(page: VolumePage) -> str:
    """Return the page as HTML with voxels as gzip in base64, which browsers decompress since 2023."""
    packed = {name: _packed(data.tobytes()) for name, data in page.volumes.items()}
    packed |= {name: _packed(data) for name, data in page.blobs.items()}
    data = "\n".join(
        f'<script type="text/plain" id="data-{name}">{text}</script>' for name, text in packed.items()
    )
    # An unescaped `<` could end the script element that contains the JSON.
    parameters = json.dumps(page.parameters, allow_nan=False, ensure_ascii=False).replace("<", "\\u003c")
    scripts = "\n".join(_asset(name) for name in SCRIPTS)
    parts = {
        "title": html.escape(page.title),
        "style": _asset("page.css"),
        "parameters": parameters,
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
    # The fixed time stamp makes pages of equal inputs equal.
    return base64.b64encode(gzip.compress(data, compresslevel=6, mtime=0)).decode("ascii")


def _asset(name: str) -> str:
    return files("cryoseg.view").joinpath("page", name).read_text(encoding="utf-8")
