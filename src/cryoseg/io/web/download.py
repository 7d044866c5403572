"""Download one file over HTTPS, resume after an interruption, and verify the file.

The bytes are in `<name>.part` until they are verified; `<name>.part.json` holds their address and version.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import time
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoseg.errors import WeightsError
from cryoseg.io.web.http import explain, open_url
from cryoseg.io.web.weight_files import OnBytes, describe, file_digests, sniff

OFFLINE_VARIABLES = ("CRYOSEG_OFFLINE", "HF_HUB_OFFLINE")
_BLOCK = 2**20
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Published digests and size of a file; None if they are not published."""

    md5: str | None = None
    sha256: str | None = None
    size: int | None = None

    def mismatch(self, digests: Mapping[str, str], size: int) -> str:
        """Describe the first difference in words; empty if there is none."""
        if self.size is not None and size != self.size:
            return f"it has {size} bytes where {self.size} are published"
        for name, wanted in (("sha256", self.sha256), ("md5", self.md5)):
            if wanted is not None and digests[name] != wanted.lower():
                return f"its {name.upper()} is {digests[name]} where {wanted.lower()} is published"
        return ""

    @property
    def has_digest(self) -> bool:
        """Whether the content can be verified."""
        return self.md5 is not None or self.sha256 is not None


@dataclass(frozen=True, kw_only=True)
class Content:
    """Kind of a downloaded file.

    Attributes
    ----------
    noun
        Name of the kind in messages.
    wrong
        Function from the first bytes of a file to a description of other content, or to None if they fit.
    folder_option
        Option or environment variable that gives another folder.
    """

    noun: str
    wrong: Callable[[bytes], str | None]
    folder_option: str


WEIGHTS_CONTENT = Content(
    noun="weights",
    wrong=lambda head: describe(head) if sniff(head) is None else None,
    folder_option="CRYOSEG_CHECKPOINTS",
)
# Data come in many formats, so that only a page of text in their place is recognized.
DATA_CONTENT = Content(
    noun="data",
    wrong=lambda head: "a web page" if re.match(rb"\s*<(!doctype\s+)?html", head, re.I) else None,
    folder_option="--output-dir",
)


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Time limit and number of connections.

    Attributes
    ----------
    timeout
        Time in seconds without a byte after which a connection has failed.
    attempts
        Number of connections that may fail in succession without progress.
    pause
        Time in seconds before the second connection; it doubles before each further one.
    """

    timeout: float = 30.0
    attempts: int = 4
    pause: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A downloaded file."""

    path: Path
    sha256: str
    verified: bool


def offline_variable(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the name of the environment variable that forbids the network, or None."""
    for name in OFFLINE_VARIABLES:
        if environment.get(name, "").strip().lower() in {"1", "true", "yes", "on"}:
            return name
    return None


def _hopeless(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code not in _TRANSIENT
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(reason, ssl.SSLCertVerificationError | socket.gaierror)


@dataclass
class _Part:
    """The incomplete file and its origin."""

    path: Path
    url: str
    content: Content
    validator: str = ""
    total: int | None = None

    @property
    def notes(self) -> Path:
        return self.path.with_name(self.path.name + ".json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def recall(self) -> None:
        try:
            notes = json.loads(self.notes.read_text(encoding="utf-8"))
            if notes["url"] != self.url:
                raise ValueError
            self.validator, self.total = str(notes["validator"]), notes["total"]
        except (OSError, ValueError, KeyError, TypeError):
            self.discard()

    def restart(self, *, validator: str, total: int | None) -> None:
        self.path.unlink(missing_ok=True)
        self.validator, self.total = validator, total
        notes = {"url": self.url, "validator": validator, "total": total}
        self.notes.write_text(json.dumps(notes), encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.notes.unlink(missing_ok=True)
        self.validator, self.total = "", None


def _validator(headers: Any) -> str:
    tag = headers.get("ETag", "")
    return str(tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", ""))


def _receive(part: _Part, *, timeout: float, resumable: bool, on_bytes: OnBytes | None) -> None:
    """Send one request and receive all announced bytes."""
    offset = part.size if part.validator or resumable else 0
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and part.validator:
        headers["If-Range"] = part.validator
    with open_url(part.url, timeout=timeout, headers=headers) as response:
        content_type = response.headers.get("Content-Type", "").lower()
        if "html" in content_type:
            raise WeightsError(
                f"{part.url}: sent a web page ({content_type.split(';')[0]}) instead of {part.content.noun}; "
                "an error, a login or a firewall page."
            )
        length = int(response.headers["Content-Length"]) if response.headers.get("Content-Length") else None
        if response.status == 206 and offset:
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
            total = None if span is None or span[3] == "*" else int(span[3])
            if span is None or int(span[1]) != offset or (part.total is not None and total != part.total):
                part.discard()
                raise ConnectionError("the server answered with another part than the one asked for")
            first, mode = b"", "ab"
        else:
            # The content is checked before truncating, so that a login page does not replace received bytes.
            first, mode = response.read(min(_BLOCK, length or _BLOCK)), "wb"
            if wrong := part.content.wrong(first):
                raise WeightsError(f"{part.url}: sent {wrong} instead of {part.content.noun}.")
            part.restart(validator=_validator(response.headers), total=length)
            offset = 0
        needed = (part.total - offset) if part.total is not None else 0
        free = shutil.disk_usage(part.path.parent).free
        if needed > free:
            raise WeightsError(
                f"{part.path.parent}: {needed / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; "
                f"make room or give another folder with {part.content.folder_option}."
            )
        with part.path.open(mode) as stream:
            done = offset
            block = first or response.read(_BLOCK)
            while block:
                stream.write(block)
                done += len(block)
                if on_bytes is not None and part.total is not None:
                    on_bytes(min(done, part.total), part.total)
                block = response.read(_BLOCK)
    if part.total is not None and part.size < part.total:
        raise ConnectionError(f"{part.size} of {part.total} bytes arrived")
    if part.total is not None and part.size > part.total:
        part.discard()
        raise ConnectionError("more bytes arrived than were announced")


def fetch(
    url: str,
    destination: Path,
    *,
    expected: Expected,
    content: Content = WEIGHTS_CONTENT,
    on_bytes: OnBytes | None = None,
    retry: Retry = Retry(),
) -> Fetched:
    """Download a file, which appears when it is complete and verified.

    Parameters
    ----------
    url
        http or https address.
    destination
        Final name, whose folder is made. The caller holds `io.outputs.lock(destination)`.
    expected
        Published digests and size.
    content
        Kind of the file.
    on_bytes
        Callback with the received and the total number of bytes.
    retry
        Time limit and number of connections.

    Raises
    ------
    WeightsError
        If the server does not respond, or the content is not the published one. Bytes of an interrupted
        download are kept for the next call.
    """
    part = _Part(path=destination.with_name(destination.name + ".part"), url=url, content=content)
    destination.parent.mkdir(parents=True, exist_ok=True)
    part.recall()
    resumed = part.size > 0
    while True:
        try:
            _transfer(part, expected, retry, on_bytes=on_bytes)
        except OSError as error:
            raise WeightsError(f"{part.path}: cannot be written ({error.strerror or error}).") from None
        digests = file_digests(part.path, ("sha256", "md5"))
        problem = expected.mismatch(digests, part.size)
        if not problem:
            break
        part.discard()
        if not resumed:
            raise WeightsError(f"{url}: the file arrived damaged: {problem}; nothing was kept.")
        resumed = False  # The pieces did not belong together; the file is received again as a whole.
    part.path.replace(destination)
    part.notes.unlink(missing_ok=True)
    return Fetched(path=destination, sha256=digests["sha256"], verified=expected.has_digest)


def _transfer(part: _Part, expected: Expected, retry: Retry, *, on_bytes: OnBytes | None) -> None:
    if part.total is not None and part.size == part.total:
        return
    failures, furthest = 0, part.size
    while True:
        try:
            _receive(part, timeout=retry.timeout, resumable=expected.has_digest, on_bytes=on_bytes)
            return
        except (
            urllib.error.URLError,
            http.client.HTTPException,
            ConnectionError,
            TimeoutError,
            ssl.SSLError,
        ) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code == 416 and part.size:
                part.discard()
            elif _hopeless(error):
                raise WeightsError(f"{part.url}: {explain(error)}.") from None
            failures = 1 if part.size > furthest else failures + 1
            furthest = max(furthest, part.size)
            if failures >= retry.attempts:
                kept = f"; {part.size / 1e6:.1f} MB are kept, the same command resumes" if part.size else ""
                raise WeightsError(f"{part.url}: {explain(error)}{kept}.") from None
            time.sleep(retry.pause * 2 ** (failures - 1))
