"""First bytes, structure and digests of files of weights, which are checked without unpickling them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryoseg.errors import WeightsError

HEAD_BYTES = 512
MAX_HEADER_BYTES = 16 * 2**20  # Our files need less than 1 MiB; a damaged length can mean exabytes.
_BLOCK = 2**20

OnBytes = Callable[[int, int], None]


class Kind(StrEnum):
    """Containers that hold weights."""

    TORCH_ZIP = "torch zip"
    TORCH_PICKLE = "torch pickle"
    SAFETENSORS = "safetensors"


def sniff(head: bytes) -> Kind | None:
    """Return the container that the first bytes of a file (at least 16) belong to; None if it is unknown."""
    if head.startswith(b"PK\x03\x04"):
        return Kind.TORCH_ZIP
    if re.match(rb"\x80[\x02-\x05]", head):
        return Kind.TORCH_PICKLE
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] < 2**40:
        return Kind.SAFETENSORS
    return None


def describe(head: bytes) -> str:
    """Describe a file that holds no weights, such as an empty file, an error page or a git-lfs pointer."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "an empty file"
    if text.startswith((b"<!doctype html", b"<html", b"<head")):
        return "an HTML page (an error or login page, not weights)"
    if text.startswith(b"<"):
        return "an XML or HTML text (an error message, not weights)"
    if text.startswith(b"version https://git-lfs"):
        return "a git-lfs pointer (the file itself was never fetched; run `git lfs pull`)"
    if text.startswith((b"{", b"[")):
        return "a JSON text (an error message, not weights)"
    if text and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in text):
        return "a plain text (not weights)"
    return "neither a torch file nor safetensors"


def require_kind(path: Path) -> Kind:
    """Return the container of a weights file.

    Raises
    ------
    WeightsError
        If the file is missing, cannot be read, or is empty, an error page or anything else without weights.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such file; `cryoseg weights list` shows what is installed.") from None
    except IsADirectoryError:
        raise WeightsError(f"{path}: is a folder; name the weights file in it.") from None
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); check its permissions.") from None
    kind = sniff(head)
    if kind is None:
        raise WeightsError(f"{path}: is {describe(head)}; give a file of weights, or get this one again.")
    return kind


def read_safetensors_header(path: Path) -> dict[str, Any]:
    """Return the JSON header of a safetensors file, which must agree with the size of the file.

    Raises
    ------
    WeightsError
        If the header is damaged, or the file has another size than it announces.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        first = stream.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else 0
        if not 2 <= length <= MAX_HEADER_BYTES or 8 + length > size:
            raise WeightsError(
                f"{path}: its safetensors header claims {length} bytes in a file of {size}; "
                "the file is damaged or truncated, get it again."
            )
        text = stream.read(length)
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise TypeError
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        end = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise WeightsError(f"{path}: its safetensors header is damaged; get the file again.") from None
    if end != size:
        raise WeightsError(
            f"{path}: has {size} bytes where its safetensors header announces {end}; "
            "the file is truncated or damaged, get it again."
        )
    return header


def check_structure(path: Path) -> Kind:
    """Check the structure of a weights file, and return its container.

    A torch zip has a CRC-32 of each tensor, safetensors have their exact size, and an old torch pickle has
    only its first bytes.

    Raises
    ------
    WeightsError
        If the file holds no weights, or is truncated or damaged.
    """
    kind = require_kind(path)
    if kind is Kind.SAFETENSORS:
        read_safetensors_header(path)
    elif kind is Kind.TORCH_ZIP:
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
        except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError, RuntimeError):
            raise WeightsError(f"{path}: the torch file is truncated or damaged; get it again.") from None
        if broken is not None:
            raise WeightsError(f"{path}: its record {broken} is damaged (CRC-32); get the file again.")
    return kind


def file_digests(
    path: Path, algorithms: Sequence[str] = ("sha256",), *, on_bytes: OnBytes | None = None
) -> dict[str, str]:
    """Return the hexadecimal digests of a file by algorithm of `hashlib.new`.

    `on_bytes` is called with the read and the total number of bytes after every block.
    """
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    total = path.stat().st_size
    done = 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            for digest in hashes.values():
                digest.update(block)
            done += len(block)
            if on_bytes is not None:
                on_bytes(done, total)
    return {name: digest.hexdigest() for name, digest in hashes.items()}


def sidecar_path(path: Path) -> Path:
    """Return the file that holds the SHA-256 of a file in the form of `sha256sum`."""
    return path.with_name(path.name + ".sha256")


def record_sha256(path: Path, sha256: str | None = None) -> str:
    """Write the SHA-256 of a verified file beside it, if the folder can be written, and return it."""
    digest = sha256 or file_digests(path)["sha256"]
    sidecar = sidecar_path(path)
    temporary = sidecar.with_name(f".{sidecar.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        temporary.write_text(f"{digest}  {path.name}\n", encoding="utf-8")
        temporary.replace(sidecar)
    return digest


def recorded_sha256(path: Path) -> str | None:
    """Return the digest that is written beside a file; None if there is none."""
    try:
        words = sidecar_path(path).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return None
    return words[0].lower() if words and re.fullmatch(r"[0-9a-fA-F]{64}", words[0]) else None
