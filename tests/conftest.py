"""Fixtures that several test folders share."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cryoseg.methods.sam.geometry import SamGeometry

# Tests use small tensors, for which more threads only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real micrographs and tomograms; the test is skipped where it is absent."""
    folder = Path(os.environ.get("CRYOSEG_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real test data: {folder} is not a folder (set CRYOSEG_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def small_sam() -> SamGeometry:
    """Sizes of a SAM of grey values that trains in seconds, without the fine stem of our own networks."""
    from cryoseg.methods.sam.geometry import SamGeometry  # most tests need no torch

    return SamGeometry(
        embed_dim=16,
        depth=2,
        num_heads=2,
        global_blocks=(1,),
        image_size=64,
        patch_size=8,
        window=4,
        out_channels=32,
        in_channels=1,
        decoder_mlp_dim=32,
        decoder_heads=2,
        iou_hidden_dim=16,
    )


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained packaged model, whose masks are meaningless."""
    import torch  # most tests need no network

    from cryoseg.methods.membrane_tiny.network import CONFIG, METHOD, MembraneRecipe, build_stage
    from cryoseg.methods.model_file import write_model_file

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    tensors = {
        f"stage{stage}.{name}": value
        for stage in (1, 2)
        for name, value in build_stage(stage, 64).state_dict().items()
    }
    metadata = {
        "method": METHOD,
        "network": CONFIG,
        "recipe": asdict(MembraneRecipe()),
        "logit_threshold": 0.0,
    }
    write_model_file(path, tensors, metadata, precision="float16")
    return path


@dataclass
class Served:
    """What the loopback server gives for one path.

    `cut` lists, request by request, after how many body bytes the connection drops; requests
    beyond the list are served whole.
    """

    body: bytes = b""
    status: int = 200
    content_type: str = "application/octet-stream"
    ranges: bool = True
    etag: str = '"v1"'
    cut: list[int] = field(default_factory=list)
    redirect: str = ""
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    content_range: str = ""


class FileServer:
    """HTTP server on the loopback interface; `log` keeps (method, path, Range) of every request."""

    def __init__(self) -> None:
        self.files: dict[str, Served] = {}
        self.log: list[tuple[str, str, str]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                owner.answer(self, with_body=True)

            def do_HEAD(self) -> None:
                owner.answer(self, with_body=False)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def gets(self, path: str) -> list[str]:
        """Range headers of the GET requests for a path, in order."""
        return [span for method, asked, span in self.log if method == "GET" and asked == path]

    def answer(self, request: BaseHTTPRequestHandler, *, with_body: bool) -> None:
        span = request.headers.get("Range", "")
        self.log.append((request.command, request.path, span))
        served = self.files.get(request.path, Served(b"nothing here", status=404, content_type="text/plain"))
        body, status, first = served.body, served.status, 0
        if served.redirect:
            status, body = 302, b""
        fresh = request.headers.get("If-Range", served.etag) == served.etag
        if span and served.ranges and status == 200 and fresh:
            first = int(span.removeprefix("bytes=").rstrip("-"))
            status = 206 if first < len(body) else 416
            body = body[first:]
        request.send_response(status)
        request.send_header("Content-Type", served.content_type)
        request.send_header("Content-Length", str(len(body)))
        if served.redirect:
            request.send_header("Location", served.redirect)
        if served.etag:
            request.send_header("ETag", served.etag)
        if status == 206:
            whole = f"bytes {first}-{len(served.body) - 1}/{len(served.body)}"
            request.send_header("Content-Range", served.content_range or whole)
        for name, value in served.headers.items():
            request.send_header(name, value)
        request.end_headers()
        if with_body:
            time.sleep(served.seconds)
            if served.cut:
                body = body[: served.cut.pop(0)]
            with contextlib.suppress(ConnectionError):
                request.wfile.write(body)
        request.close_connection = True


@pytest.fixture
def file_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A loopback server, with offline switches and proxies out of the way."""
    for name in ("CRYOSEG_OFFLINE", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    server = FileServer()
    yield server
    server.close()


@pytest.fixture
def served() -> type[Served]:
    """Constructor of what `file_server` serves."""
    return Served
