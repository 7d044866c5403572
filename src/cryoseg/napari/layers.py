"""Layers of napari and the files from which they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

KEY = "cryoseg"  # Key in the metadata of layers.


def about(layer: Any) -> dict[str, Any]:
    """Return what the readers of cryoseg noted about a layer; empty for layers of other readers."""
    noted: dict[str, Any] = layer.metadata.get(KEY, {})
    return noted


def kind_of(layer: Any) -> str:
    """Return the kind of a layer: tomogram, logits, labels or picks; empty for layers of other readers."""
    return str(about(layer).get("kind", ""))


def path_of(layer: Any) -> Path | None:
    """Return the file of a layer; None if it has none."""
    path = about(layer).get("path") or layer.source.path
    return None if path is None else Path(path)
