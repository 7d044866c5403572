"""Claims: which process works on which output, when several share a folder.

A claim is a hidden file beside the output that tells host and process. Of a process on this host the
kernel tells whether it lives; a process elsewhere shows it by touching its claim. Claims save work
and guard nothing: outputs are written whole and renamed, so that two processes at one input would
write the same files twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cryoseg.errors import OutputError
from cryoseg.io.outputs import TEMPORARY_PREFIX, hidden_path, make_folder

HEARTBEAT_SECONDS = 15.0
# Eight missed heartbeats: file servers may show a new time to other hosts half a minute late.
STALE_SECONDS = 120.0


def claim_path(output: Path) -> Path:
    """Where the claim on an output lies."""
    return hidden_path(output, "claim")


@contextmanager
def claim(output: Path, *, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> Iterator[bool]:
    """Claim an output for the length of the block.

    Parameters
    ----------
    output
        Names the work; it need not exist. Its folder is made if missing.
    heartbeat_seconds
        How often the claim shows that this process lives.

    Yields
    ------
    bool
        False if a living process holds the claim; the work is to be left to it.

    Raises
    ------
    OutputError
        If nothing can be written in the folder.
    """
    path, token, stop = claim_path(output), secrets.token_hex(8), threading.Event()
    try:
        # Within the block: an interrupt may come between the claim and the next line.
        is_ours = _take(path, token)
        if is_ours:
            thread = threading.Thread(target=_beat, args=(path, stop, heartbeat_seconds), daemon=True)
            thread.start()
        yield is_ours
    finally:
        try:
            _release(path, token, stop)
        except KeyboardInterrupt:  # in the very moment in which the claim goes
            _release(path, token, stop)
            raise


def _release(path: Path, token: str, stop: threading.Event) -> None:
    stop.set()
    if (_read(path) or {}).get("token") == token:
        with contextlib.suppress(OSError):
            path.unlink()


def holder(output: Path) -> str:
    """The process that holds a claim, for a message: `process 123 on gpu7`."""
    content = _read(claim_path(output)) or {}
    return f"process {content.get('pid', '?')} on {content.get('host', '?')}"


def is_unclaimed(output: Path) -> bool:
    """Whether no living process claims an output; the claim of a killed one is removed on the way."""
    path = claim_path(output)
    if path.exists() and is_stale(path):
        with contextlib.suppress(OSError):
            path.unlink()
    return not path.exists()


def is_stale(path: Path, *, stale_seconds: float = STALE_SECONDS) -> bool:
    """Whether the process behind a claim is gone.

    Parameters
    ----------
    path
        The claim.
    stale_seconds
        A process of another host that showed no life for so long is gone.
    """
    content = _read(path)
    if content is not None and content.get("machine") == _machine():
        return _started(int(content.get("pid", 0))) != content.get("started")
    try:
        # The file server's clock, not ours: hosts disagree about the time.
        probe = path.with_name(f"{TEMPORARY_PREFIX}time-{secrets.token_hex(4)}")
        probe.touch()
        now = probe.stat().st_mtime
        probe.unlink()
        return now - path.stat().st_mtime > stale_seconds
    except OSError:
        return False


def _take(path: Path, token: str) -> bool:
    content = {
        "token": token,
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    if _create(path, content):
        return True
    if not is_stale(path):
        return False
    # Of several processes that find a stale claim, one renames it; who renamed a fresh one by
    # mistake, because another was faster, gives it back.
    before = _read(path)
    moved = path.with_name(f"{TEMPORARY_PREFIX}stale-{secrets.token_hex(4)}")
    try:
        path.rename(moved)
    except OSError:
        return False
    if _read(moved) != before:
        with contextlib.suppress(OSError):
            os.link(moved, path)
        moved.unlink(missing_ok=True)
        return False
    moved.unlink(missing_ok=True)
    return _create(path, content)


def _create(path: Path, content: dict[str, Any]) -> bool:
    """Make the claim in one step, content and all; False if there is one."""
    make_folder(path.parent)
    draft = path.with_name(f"{TEMPORARY_PREFIX}draft-{secrets.token_hex(4)}")
    try:
        draft.write_text(json.dumps(content), encoding="utf-8")
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            return _create_without_links(path, json.dumps(content))
        return True
    except OSError as error:
        raise OutputError(
            f"{path.parent}: nothing can be written there ({error.strerror}). Choose another --output-dir."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def _create_without_links(path: Path, text: str) -> bool:
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        return False
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _beat(path: Path, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        with contextlib.suppress(OSError):
            os.utime(path)


@cache
def _machine() -> str:
    """A name for the set of processes that this one can see: host, boot, process namespace."""
    parts = [socket.gethostname()]
    for source in ("/proc/sys/kernel/random/boot_id",):
        with contextlib.suppress(OSError):
            parts.append(Path(source).read_text(encoding="ascii").strip())
    with contextlib.suppress(OSError):
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return " ".join(parts)


def _started(pid: int) -> str | None:
    """When a process of this host began, so that a number used again is no proof of life; None if gone."""
    try:
        # The name in parentheses may hold spaces; the start time is the 20th word after it.
        words = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if words[0] in ("Z", "X") else words[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return "alive"
