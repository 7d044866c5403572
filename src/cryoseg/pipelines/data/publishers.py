"""Digests and sizes that publishers give for their weights, on Zenodo and the Hugging Face hub."""

from __future__ import annotations

import os
import re
from typing import Any

from cryoseg.errors import WeightsError
from cryoseg.io.web.download import Expected
from cryoseg.io.web.http import explain, fetch_json
from cryoseg.methods.weights import Weights

HUB_ENDPOINT = "https://huggingface.co"


def address(entry: Weights) -> str:
    """Return the address of a download; on the hub, `HF_ENDPOINT` replaces the server."""
    if entry.hub is None:
        return entry.url
    from huggingface_hub import hf_hub_url

    repository, file_name = entry.hub
    return hf_hub_url(repository, file_name, endpoint=_endpoint())


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", HUB_ENDPOINT).rstrip("/")


def published(entry: Weights) -> Expected:
    """Return the digests and the size that the publisher gives.

    Raises
    ------
    WeightsError
        If the server does not respond, or gives no digest for the file.
    """
    if entry.hub is not None:
        return _published_on_hub(entry)
    if entry.record_url is not None and entry.md5 is None and entry.sha256 is None:
        return _published_on_zenodo(fetch_json(entry.record_url), entry)
    return Expected(md5=entry.md5, sha256=entry.sha256)


def _published_on_zenodo(record: Any, entry: Weights) -> Expected:
    try:
        files = record["files"]
        listed = files["entries"] if isinstance(files, dict) else files
        listed = list(listed.values()) if isinstance(listed, dict) else listed
        found = next(item for item in listed if item.get("key", item.get("filename")) == entry.file_name)
        algorithm, _, digest = str(found["checksum"]).rpartition(":")
        if algorithm not in {"", "md5"} or not re.fullmatch(r"[0-9a-fA-F]{32}", digest):
            raise ValueError
        return Expected(md5=digest.lower(), size=int(found["size"]))
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError):
        raise WeightsError(
            f"{entry.record_url}: the record gives no MD5 sum for {entry.file_name}, "
            "so a download cannot be verified."
        ) from None


def _published_on_hub(entry: Weights) -> Expected:
    from huggingface_hub import get_hf_file_metadata

    try:
        metadata = get_hf_file_metadata(address(entry), token=False)
    except Exception as error:  # the types that the client raises differ between its versions
        text = explain(error) if isinstance(error, OSError) else " ".join(str(error).split())[:200]
        raise WeightsError(f"{address(entry)}: the hub does not respond ({text}).") from None
    etag = (metadata.etag or "").lower()
    sha256 = etag if re.fullmatch(r"[0-9a-f]{64}", etag) else None
    if entry.sha256 and sha256 and sha256 != entry.sha256:
        raise WeightsError(
            f"{address(entry)}: the hub now holds another file (SHA-256 {sha256}) than the known one "
            f"({entry.sha256}); upgrade cryoseg."
        )
    return Expected(sha256=entry.sha256 or sha256, size=metadata.size)
