"""List, verify and download weights."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryoseg.errors import InputError, WeightsError
from cryoseg.events import Note, OnEvent, Report, Row, Status, Warn, ignore
from cryoseg.io.outputs import lock
from cryoseg.io.web.download import Expected, Retry, fetch, offline_variable
from cryoseg.io.web.http import explain, fetch_json
from cryoseg.io.web.weight_files import check_structure, file_digests, record_sha256, recorded_sha256
from cryoseg.methods.weights import (
    WEIGHTS,
    Weights,
    by_hand,
    canonical_name,
    download_folder,
    expand_names,
    locate,
    lookup,
    package_folder,
    require,
)
from cryoseg.pipelines.data.fetch_data import report_each, report_megabytes

HUB_ENDPOINT = "https://huggingface.co"


def address(entry: Weights) -> str:
    """Return the address of a download; on the hub, `HF_ENDPOINT` replaces the server."""
    if entry.hub is None:
        return entry.url
    from huggingface_hub import hf_hub_url

    repository, file_name = entry.hub
    endpoint = os.environ.get("HF_ENDPOINT", HUB_ENDPOINT).rstrip("/")
    return hf_hub_url(repository, file_name, endpoint=endpoint)


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


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Known weights and their file.

    Attributes
    ----------
    path
        Path of the file; if it is missing, the path where it is expected.
    size
        Size of the file in bytes, or the published size if it is missing; None if unknown.
    """

    weights: Weights
    path: Path
    found: bool
    size: int | None
    hash_status: str


def list_weights(*, checkpoints_dir: Path | None = None) -> list[Listed]:
    """Return all known weights with the paths of their files."""
    rows = []
    downloads = Path()  # an account may have no home folder
    with suppress(InputError):
        downloads = download_folder(checkpoints_dir=checkpoints_dir)
    for entry in WEIGHTS.values():
        path = locate(entry.name, checkpoints_dir=checkpoints_dir)
        folder = package_folder() if entry.bundled else downloads
        rows.append(
            Listed(
                weights=entry,
                path=path or folder / entry.file_name,
                found=path is not None,
                size=path.stat().st_size if path is not None else entry.size,
                hash_status=_hash_status(entry, path),
            )
        )
    return rows


def _hash_status(entry: Weights, path: Path | None) -> str:
    if path is not None:
        if entry.bundled and recorded_sha256(path) is None:
            return "bundled"
        return "SHA-256 recorded" if recorded_sha256(path) else "not verified"
    if entry.bundled:
        return "missing"
    if entry.sha256:
        return "SHA-256 known"
    return "MD5 known" if entry.md5 else "MD5 on Zenodo"


def readable_size(n_bytes: int | None) -> str:
    """Format a number of bytes as decimal megabytes."""
    return "" if n_bytes is None else f"{n_bytes / 1e6:.1f} MB"


def markdown_table() -> str:
    """Return the table of `checkpoints/README.md`, with computed digests of the bundled files."""
    lines = ["| name | file | size | digest | licence | source |", "|---|---|---|---|---|---|"]
    for entry in WEIGHTS.values():
        size, digest = entry.size, "MD5 in the Zenodo record, read at download"
        if entry.sha256 or entry.md5:
            digest = f"SHA-256 `{entry.sha256}`" if entry.sha256 else f"MD5 `{entry.md5}`"
        if entry.bundled:
            path = package_folder() / entry.file_name
            size = path.stat().st_size if path.is_file() else None
            digest = f"SHA-256 `{file_digests(path)['sha256']}`" if path.is_file() else "not bundled yet"
        lines.append(
            f"| `{entry.name}` | `{entry.file_name}` | {readable_size(size) or 'see source'} "
            f"| {digest} | {entry.licence} | {entry.source} |"
        )
    return "\n".join(lines) + "\n"


def verify_weights(
    names: Sequence[str] = (), *, checkpoints_dir: Path | None = None, on_event: OnEvent = ignore
) -> Report:
    """Compare files with their published or recorded digests, and check their structure.

    `names` are known names, groups or files; without any, all installed files are verified. A row is done if
    a digest agrees, skipped if there is no digest and the structure is valid, and failed otherwise.
    """

    def targets() -> list[str]:
        if not names:
            return [key for key in WEIGHTS if locate(key, checkpoints_dir=checkpoints_dir)]
        found: list[str] = []
        for name in names:
            is_file = canonical_name(name) is None and Path(name).exists()
            found.extend([name] if is_file or "/" in name else expand_names([name]))
        return found

    def verify(name: str) -> Row:
        key = canonical_name(name)
        if key is not None:
            path = require(key, checkpoints_dir=checkpoints_dir)
            return _verify_file(WEIGHTS[key], path, on_event=on_event)
        path = Path(name)
        key = canonical_name(path.name)
        return _verify_file(None if key is None else WEIGHTS[key], path, on_event=on_event)

    return report_each(targets(), verify, on_event=on_event)


def _verify_file(entry: Weights | None, path: Path, *, on_event: OnEvent) -> Row:
    kind = check_structure(path)
    recorded = recorded_sha256(path)
    expected = Expected()
    if entry is not None and not entry.bundled:
        expected = Expected(md5=entry.md5, sha256=entry.sha256)
        if not expected.has_digest and recorded is None and entry.record_url and offline_variable() is None:
            try:
                expected = published(entry)
            except WeightsError as error:
                on_event(Warn(text=f"{entry.name}: the publisher's digests could not be read: {error}"))
    digests = file_digests(path, ("sha256", "md5"), on_bytes=report_megabytes(path.name, "hashing", on_event))
    size = path.stat().st_size
    sha256 = digests["sha256"]
    columns = {"size": readable_size(size), "SHA-256": f"{sha256[:12]}..."}
    again = "delete it and " + (
        f"run `cryoseg weights download {entry.name}`" if entry and entry.url else "get it again"
    )
    if problem := expected.mismatch(digests, size):
        raise WeightsError(f"{path}: is not the published file: {problem}; {again}.")
    if recorded is not None and recorded != sha256:
        raise WeightsError(
            f"{path}: has changed since it was verified: "
            f"its SHA-256 is {sha256} where {recorded} is recorded; {again}."
        )
    if expected.has_digest:
        record_sha256(path, sha256)
        by = "SHA-256" if expected.sha256 else "MD5"
        return Row(name=str(path), status=Status.DONE, columns=columns, message=f"{by} as published")
    if recorded is not None:
        return Row(name=str(path), status=Status.DONE, columns=columns, message="SHA-256 as recorded")
    message = f"no digest to compare with; the {kind.value} file is complete, SHA-256 {sha256}"
    return Row(name=str(path), status=Status.SKIPPED, columns=columns, message=message)


def download_weights(
    names: Sequence[str],
    *,
    checkpoints_dir: Path | None = None,
    on_event: OnEvent = ignore,
    retry: Retry = Retry(),
) -> Report:
    """Download weights, given by name or group, into `download_folder`, and verify them.

    With `checkpoints_dir`, existing files elsewhere are ignored. Without it, an existing file on the search
    path is verified and kept, and its row is skipped.
    """

    def download(name: str) -> Row:
        entry = lookup(name)
        present = locate(name, checkpoints_dir=checkpoints_dir)
        destination = download_folder(checkpoints_dir=checkpoints_dir) / entry.file_name
        if entry.bundled:
            path = require(name, checkpoints_dir=checkpoints_dir)
            return Row(name=name, status=Status.SKIPPED, outputs=(path,), message="comes with the package")
        if present is not None and (checkpoints_dir is None or present == destination):
            return _kept(entry, present, on_event=on_event)
        if variable := offline_variable():
            raise WeightsError(
                f"{name}: {variable} is set, so nothing is downloaded. {by_hand(entry, destination)}"
            )

        def wait() -> None:
            on_event(Note(text=f"{name}: another process is downloading it; waiting."))

        with lock(destination, on_wait=wait):
            if destination.is_file():
                return _kept(entry, destination, on_event=on_event)
            return _download(entry, destination, retry=retry, on_event=on_event)

    return report_each(expand_names(list(names)), download, on_event=on_event)


def _kept(entry: Weights, path: Path, *, on_event: OnEvent) -> Row:
    row = _verify_file(entry, path, on_event=on_event)
    return replace(
        row, name=entry.name, status=Status.SKIPPED, outputs=(path,), message=f"kept {path}; {row.message}"
    )


def _download(entry: Weights, destination: Path, *, retry: Retry, on_event: OnEvent) -> Row:
    try:
        expected = published(entry)
        on_event(Note(text=f"{entry.name}: {entry.licence}; from {entry.source} to {destination}"))
        fetched = fetch(
            address(entry),
            destination,
            expected=expected,
            on_bytes=report_megabytes(entry.name, "download", on_event),
            retry=retry,
        )
        try:
            check_structure(destination)
        except WeightsError:
            destination.unlink()
            raise
    except WeightsError as error:
        raise WeightsError(f"{error} {by_hand(entry, destination)}") from None
    size = readable_size(destination.stat().st_size)
    message = str(destination)
    if fetched.verified:
        record_sha256(destination, fetched.sha256)
    else:
        message += " (the publisher gives no digest to compare with)"
    return Row(
        name=entry.name,
        status=Status.DONE,
        columns={"size": size, "SHA-256": f"{fetched.sha256[:12]}..."},
        outputs=(destination,),
        message=message,
    )
