"""Requests to web servers: JSON, text, sizes, listings of buckets, and network errors in words."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from cryoseg import __version__
from cryoseg.errors import InputError, WeightsError

_MAX_TEXT_BYTES = 4 * 2**20
_TIMEOUT_SECONDS = 20.0


class NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Handler of redirects that refuses those from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request to follow."""
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise WeightsError(f"{req.full_url}: redirects to {newurl}, which is not encrypted; refused.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_url(
    url: str,
    *,
    timeout: float,
    headers: Mapping[str, str] | None = None,
    data: bytes | None = None,
    method: str | None = None,
) -> Any:
    """Return an open response, which the caller closes.

    Parameters
    ----------
    url
        http or https address.
    timeout
        Time in seconds without a byte after which the request fails.
    headers
        Further headers.
    data, method
        Body to post, and another method than GET or POST.

    Raises
    ------
    OSError, http.client.HTTPException
        If the server does not respond, or responds with an error; see `explain`.
    """
    request = urllib.request.Request(
        url,
        data=data,
        method=method,
        headers={"User-Agent": f"cryoseg/{__version__}", "Accept-Encoding": "identity", **(headers or {})},
    )
    return urllib.request.build_opener(NoDowngrade).open(request, timeout=timeout)


@contextmanager
def _response(url: str, **request: Any) -> Iterator[Any]:
    """Open a response for the length of a block, and raise network errors as a `WeightsError`."""
    try:
        with open_url(url, timeout=_TIMEOUT_SECONDS, **request) as response:
            yield response
    except (OSError, http.client.HTTPException) as error:
        raise WeightsError(f"{url}: {explain(error)}.") from None


def fetch_json(url: str, *, body: Any = None) -> Any:
    """Return a JSON document of at most 4 MiB; a `body` is sent as JSON by POST.

    Raises
    ------
    WeightsError
        If the server does not respond, or its response is not JSON.
    """
    headers = {"Accept": "application/json"}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = json.dumps(body).encode()
    with _response(url, headers=headers, data=data) as response:
        content = response.read(_MAX_TEXT_BYTES)
    try:
        return json.loads(content)
    except ValueError:
        raise WeightsError(
            f"{url}: the answer is not JSON (an error or login page?); try again later."
        ) from None


def fetch_text(url: str) -> str:
    """Return a text of at most 4 MiB.

    Raises
    ------
    WeightsError
        If the server does not respond.
    """
    with _response(url) as response:
        return str(response.read(_MAX_TEXT_BYTES).decode("utf-8", errors="replace"))


def announced_size(url: str) -> int | None:
    """Return the size in bytes that a server announces for a file; None if it announces none.

    Raises
    ------
    WeightsError
        If the server does not respond.
    """
    with _response(url, method="HEAD") as response:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdecimal() else None


def explain(error: Exception) -> str:
    """Describe a network error in words."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}".rstrip()
    if isinstance(reason, ssl.SSLCertVerificationError):
        return (
            f"its certificate was refused ({reason.verify_message}); behind a company proxy "
            "set SSL_CERT_FILE to the proxy's certificate file"
        )
    if isinstance(reason, socket.gaierror):
        return "the server's name cannot be resolved (no network, or a firewall)"
    if isinstance(reason, TimeoutError):
        return "the server does not answer (no network, or a firewall)"
    if isinstance(reason, ConnectionRefusedError):
        return "the connection was refused (a firewall or proxy?)"
    if isinstance(reason, http.client.IncompleteRead | ConnectionError | ssl.SSLError):
        return "the connection broke off"
    return f"the transfer failed ({reason})"


_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """File to download.

    Attributes
    ----------
    url
        Address of the file.
    path
        Path relative to the folder of the run, with forward slashes.
    size
        Size in bytes; None if it is unknown.
    md5
        Published digest, or None.
    """

    url: str
    path: str
    size: int | None = None
    md5: str | None = None


def list_bucket(bucket_url: str, prefix: str, *, folder: str) -> list[RemoteFile]:
    """Return all objects of a public bucket below a prefix.

    Parameters
    ----------
    bucket_url
        Address of the bucket, without a slash at its end.
    prefix
        Key of the folder, with a slash at its end.
    folder
        Folder of the downloaded objects, below which they keep the part of the key after the prefix.

    Raises
    ------
    InputError
        If the response is not a listing, or is empty.
    WeightsError
        If the server does not respond.

    Source: Amazon S3, ListObjectsV2.
    """
    files: list[RemoteFile] = []
    token = ""
    while True:
        question = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
        url = f"{bucket_url}/?{urlencode(question)}"
        try:
            page = ET.fromstring(fetch_text(url))
        except ET.ParseError:
            raise InputError(f"{url}: the answer is no listing of a bucket; try again later.") from None
        for entry in page.iter(f"{_NAMESPACE}Contents"):
            key = entry.findtext(f"{_NAMESPACE}Key", "")
            if key.endswith("/") or not key.startswith(prefix):
                continue
            try:
                size = int(entry.findtext(f"{_NAMESPACE}Size", "0"))
            except ValueError:
                raise InputError(f"{url}: the answer gives no size of {key}; try again later.") from None
            path = safe_path(f"{folder}/{key.removeprefix(prefix)}", url=url)
            files.append(RemoteFile(url=f"{bucket_url}/{quote(key)}", path=path, size=size))
        last, token = token, page.findtext(f"{_NAMESPACE}NextContinuationToken", "")
        if not token:
            break
        if token == last:
            raise InputError(f"{url}: the listing of the bucket has no end; try again later.")
    if not files:
        raise InputError(f"{bucket_url}/{prefix}: the bucket holds nothing there.")
    return files


def safe_path(path: str, *, url: str) -> str:
    """Return a path from a server unchanged.

    Raises
    ------
    InputError
        If the path leads out of its folder.
    """
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"{url}: names the file {path!r}, which lies outside its folder; refused.")
    return path
