"""Files on servers, and the listing of a public S3 bucket by plain HTTPS."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from cryoseg.errors import InputError
from cryoseg.io.web.http import fetch_text

_NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file to fetch.

    Attributes
    ----------
    url
        Its address.
    path
        Where it goes, relative to the folder of its run, with forward slashes.
    size
        In bytes; None if nobody says.
    md5
        As published, or None.
    """

    url: str
    path: str
    size: int | None = None
    md5: str | None = None


def list_bucket(bucket_url: str, prefix: str, *, folder: str) -> list[RemoteFile]:
    """All objects of a public bucket below a prefix.

    Parameters
    ----------
    bucket_url
        Address of the bucket, without a slash at its end.
    prefix
        Key of the folder, with a slash at its end.
    folder
        Where the objects go; keys keep what follows `prefix`.

    Raises
    ------
    InputError
        If the answer is no listing, or it is empty.
    WeightsError
        If the server does not answer.

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
    """The path itself, if it stays below its folder.

    Raises
    ------
    InputError
        If a server sent a path that leads elsewhere.
    """
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"{url}: names the file {path!r}, which lies outside its folder; refused.")
    return path
