"""Fetch from a loopback server that answers as the portal, S3, Dataverse and CryoPPP document."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import mrcfile
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.fetch_data import FetchConfig, VolumeFormat
from cryoseg.errors import InputError
from cryoseg.events import Status
from cryoseg.io.images.volumes import read_mask, read_tomogram
from cryoseg.io.web.download import Retry
from cryoseg.pipelines.data import fetch_plan
from cryoseg.pipelines.data.fetch_data import fetch_planned
from cryoseg.pipelines.data.fetch_plan import Services, plan_fetch

KEY = "10000/TS_037/Reconstructions/VoxelSpacing13.480"
TOMOGRAM = np.arange(4 * 6 * 8, dtype=np.int16).reshape(4, 6, 8)
MASK = (TOMOGRAM % 3 == 0).astype(np.int8)


def mrc_bytes(folder: Path, data: np.ndarray) -> bytes:
    path = folder / "made.mrc"
    with mrcfile.new(path, data, overwrite=True) as file:
        file.voxel_size = 13.48
    return path.read_bytes()


class Internet:
    """All four services under one address; `asked` keeps method, path and Range of every request."""

    def __init__(self, folder: Path) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.cut: dict[str, list[int]] = {}
        self.bodies: dict[str, bytes] = {
            f"/files/{KEY}/Tomograms/100/TS_037.mrc": mrc_bytes(folder, TOMOGRAM),
            f"/files/{KEY}/Annotations/101/membrane.mrc": mrc_bytes(folder, MASK),
            f"/files/{KEY}/Annotations/102/vesicle.mrc": mrc_bytes(folder, 1 - MASK),
            f"/files/{KEY}/Annotations/103/ribosome.ndjson": b'{"location": {"x": 1, "y": 2, "z": 3}}\n',
            "/storage/mask": mrc_bytes(folder, MASK),
            "/storage/simulated": mrc_bytes(folder, TOMOGRAM),
        }
        store = folder / "TS_037.zarr"
        group = zarr.open_group(store, mode="w", zarr_format=2)
        group.create_array(
            "0", data=TOMOGRAM, chunks=(2, 6, 4), chunk_key_encoding={"name": "v2", "separator": "/"}
        )
        group.create_array("1", data=TOMOGRAM[::2, ::2, ::2], chunks=(2, 3, 4))
        axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
        levels = [
            {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [13.48 * 2**n] * 3}]}
            for n in (0, 1)
        ]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": levels}]
        for path in store.rglob("*"):
            if path.is_file():
                name = f"/bucket/{KEY}/Tomograms/100/TS_037.zarr/{path.relative_to(store).as_posix()}"
                self.bodies[name] = path.read_bytes()
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as packed:
            for name, text in (("10017/micrographs/a.mrc", b"image"), ("10017/ground_truth/a.csv", b"x,y")):
                entry = tarfile.TarInfo(name)
                entry.size = len(text)
                packed.addfile(entry, io.BytesIO(text))
        self.bodies["/cryoppp/10017.tar.gz"] = archive.getvalue()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                owner.answer(self)

            def do_HEAD(self) -> None:
                owner.answer(self)

            def do_POST(self) -> None:
                owner.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.services = Services(
            portal_api=f"{self.url}/graphql",
            portal_bucket=f"{self.url}/bucket",
            dataverse=self.url,
            cryoppp=self.url,
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def gets(self, path: str) -> list[str]:
        return [span for method, asked, span in self.asked if (method, asked) == ("GET", path)]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        path, span = unquote(address.path), request.headers.get("Range", "")
        self.asked.append((request.command, path, span))
        question = {name: values[0] for name, values in parse_qs(address.query).items()}
        if path == "/graphql":
            assert request.command == "POST"
            assert request.headers["Content-Type"] == "application/json"
            body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
            self._send(request, json.dumps(self.graphql(**body)).encode(), kind="application/json")
        elif path == "/bucket/":
            assert question["list-type"] == "2"
            self._send(request, self.listing(question), kind="application/xml")
        elif path == "/api/datasets/:persistentId/versions/:latest-published/files":
            assert question == {"persistentId": "doi:10.7910/DVN/K4JKCW"}
            self._send(request, json.dumps(self.dataverse()).encode(), kind="application/json")
        elif path.startswith("/api/access/datafile/"):
            # Harvard's files lie in S3, behind an address that is good for an hour.
            target = {"11": "/storage/mask", "12": "/storage/simulated", "13": "/storage/mask"}[
                path.rsplit("/", 1)[1]
            ]
            request.send_response(303)
            request.send_header("Location", f"{self.url}{target}?X-Amz-Expires=3600")
            request.send_header("Content-Length", "0")
            request.end_headers()
        elif path in self.bodies:
            self._send(request, self.bodies[path], span=span, cut=self.cut.get(path))
        else:
            self._send(request, b"<Error><Code>NoSuchKey</Code></Error>", status=404, kind="application/xml")

    def graphql(self, query: str, variables: dict) -> dict:  # type: ignore[type-arg]
        if "runs(where: $where)" in query:
            where = variables["where"]
            assert where["datasetId"] == {"_eq": 10000}
            known = where.get("id") == {"_eq": 247} or where.get("name") == {"_eq": "TS_037"}
            return {"data": {"runs": [{"id": 247, "name": "TS_037", "datasetId": 10000}] if known else []}}
        if variables != {"run": 247}:
            return {"data": None, "errors": [{"message": "Variable '$run' got an invalid value"}]}
        files, bucket = f"{self.url}/files/{KEY}", "s3://cryoet-data-portal-public"
        tomogram = {"processing": "raw", "s3OmezarrDir": f"{bucket}/{KEY}/Tomograms/100/TS_037.zarr"}
        mrc = f"{files}/Tomograms/100/TS_037.mrc"
        annotations = [
            (101, "membrane.mrc", "mrc", "SegmentationMask", 13.48),
            (101, "membrane.zarr", "zarr", "SegmentationMask", 13.48),
            (102, "vesicle.mrc", "mrc", "SegmentationMask", 13.48),
            (103, "ribosome.ndjson", "ndjson", "OrientedPoint", None),
            (104, "other.mrc", "mrc", "SegmentationMask", 7.84),
        ]
        return {
            "data": {
                "tomograms": [
                    tomogram | {"id": 300, "voxelSpacing": 13.48, "httpsMrcFile": mrc, "fileSizeMrc": 1408.0},
                    tomogram | {"id": 301, "voxelSpacing": 7.84, "httpsMrcFile": None, "fileSizeMrc": None},
                ],
                "annotationFiles": [
                    {
                        "format": form,
                        "httpsPath": f"{files}/Annotations/{number}/{name}",
                        "fileSize": None,
                        "tomogramVoxelSpacing": None if size is None else {"voxelSpacing": size},
                        "annotationShape": {
                            "shapeType": shape,
                            "annotation": {"id": number, "objectName": name},
                        },
                    }
                    for number, name, form, shape, size in annotations
                ],
            }
        }

    def listing(self, question: dict[str, str]) -> bytes:
        """Two keys a page, as a bucket does with a thousand."""
        keys = sorted(path.removeprefix("/bucket/") for path in self.bodies if path.startswith("/bucket/"))
        keys = [key for key in keys if key.startswith(question["prefix"])]
        first = int(question.get("continuation-token", "0"))
        entries = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(self.bodies[f'/bucket/{key}'])}</Size></Contents>"
            for key in keys[first : first + 2]
        )
        more = first + 2 < len(keys)
        token = f"<NextContinuationToken>{first + 2}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{entries}{token}</ListBucketResult>"
        ).encode()

    def dataverse(self) -> dict:  # type: ignore[type-arg]
        def entry(number: int, folder: str, label: str, body: bytes) -> dict:  # type: ignore[type-arg]
            md5 = hashlib.md5(body).hexdigest()
            data = {
                "id": number,
                "filename": label,
                "filesize": len(body),
                "contentType": "application/octet-stream",
            }
            data |= {"md5": md5, "checksum": {"type": "MD5", "value": md5}}
            return {"label": label, "directoryLabel": folder, "restricted": False, "dataFile": data}

        mask, simulated = self.bodies["/storage/mask"], self.bodies["/storage/simulated"]
        return {
            "status": "OK",
            "data": [
                entry(11, "10000/247/target_mask", "247_target_mask.mrc", mask),
                entry(12, "emdb/4603/tomogram", "emd_4603.mrc", simulated),
                entry(13, "emdb/4603/target_mask", "4603_target_mask.mrc", mask),
                {"label": "README.md", "dataFile": {"id": 14, "filesize": 3}},
            ],
        }

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        body: bytes,
        *,
        status: int = 200,
        kind: str = "binary/octet-stream",
        span: str = "",
        cut: list[int] | None = None,
    ) -> None:
        first = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
        request.send_response(206 if first else status)
        if first:
            request.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        body = body[first:]
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("ETag", '"5d41402abc"')
        request.end_headers()
        if request.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                request.wfile.write(body[: cut.pop(0)] if cut else body)
        request.close_connection = True


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    for name in ("CRYOSEG_OFFLINE", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    (tmp_path / "served").mkdir()
    server = Internet(tmp_path / "served")
    monkeypatch.setattr(fetch_plan, "Services", lambda: server.services)
    yield server
    server.close()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def invoke(*arguments: str) -> tuple[int, str]:
        words = ["data", "fetch", *arguments, "-o", str(tmp_path / "out")]
        result = CliRunner().invoke(app, words)
        return result.exit_code, result.output + str(result.exception or "")

    return invoke


def below(folder: Path) -> list[str]:
    """Files but locks, which stay where something failed."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return sorted(path.relative_to(folder).as_posix() for path in files)


def test_a_single_run_brings_tomogram_and_annotations(
    internet: Internet, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    status, text = run("10000/247", "--dry-run")
    assert status == 0
    assert "10000/247: 4 files" in text
    assert "TS_037.mrc  0.0 MB  http://127.0.0.1" in text
    assert "of the tomograms 300 (raw, 13.48 A), 301" not in text  # told when it is fetched
    assert not (tmp_path / "out").exists()
    status, text = run("10000/247")
    assert status == 0, text
    folder = tmp_path / "out" / "10000" / "247"
    assert below(folder) == [
        "annotations/101_membrane.mrc",
        "annotations/102_vesicle.mrc",
        "annotations/103_ribosome.ndjson",
        "source.json",
        "tomogram/TS_037.mrc",
    ]
    np.testing.assert_array_equal(read_tomogram(folder / "tomogram" / "TS_037.mrc").data, TOMOGRAM)
    assert "the first of the tomograms" in text
    before = len(internet.asked)
    status, text = run("10000/247")
    assert "exists already" in text
    assert all(method == "POST" for method, *_ in internet.asked[before:])


def test_a_run_by_name_without_annotations(internet: Internet, tmp_path: Path) -> None:
    config = FetchConfig(annotations=False)
    (planned,) = plan_fetch(["10000/TS_037"], tmp_path / "out", config, services=internet.services)
    assert [file.path for file in planned.files] == ["tomogram/TS_037.mrc"]


def test_what_the_portal_does_not_have_is_said(internet: Internet, tmp_path: Path) -> None:
    def error(what: str, config: FetchConfig | None = None) -> str:
        (planned,) = plan_fetch([what], tmp_path, config, services=internet.services)
        return planned.error

    assert "no such run" in error("10000/999")
    assert "there are 300 (raw, 13.48 A), 301" in error("10000/247", FetchConfig(tomogram_id=5))
    assert "--volume-format ome-zarr" in error("10000/247", FetchConfig(tomogram_id=301))
    assert "neither a portal number" in error("emdb/1")
    assert "answered 404" in error("cryoppp:10018")
    with pytest.raises(InputError, match=r"10000/247, or cryoppp:10017"):
        plan_fetch(["10000"], tmp_path, services=internet.services)


def test_the_list_takes_masks_from_the_dataverse(
    internet: Internet, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    table = tmp_path / "list.csv"
    table.write_text(
        "dataset_id,run_id,annotation_ids,split,organism_name\n"
        "10000,247,none,test,Schizosaccharomyces pombe\n"
        "emdb,4603,none,test,Synechocystis\n"
        "10000,999,none,test,Nobody\n"
        "10001,258,none,train,Nobody\n"
    )
    status, text = run(str(table), "--split", "test")
    assert status == 1
    out = tmp_path / "out"
    assert below(out / "10000" / "247") == [
        "source.json",
        "target_mask/247_target_mask.mrc",
        "tomogram/TS_037.mrc",
    ]
    assert below(out / "emdb") == [
        "4603/source.json",
        "4603/target_mask/4603_target_mask.mrc",
        "4603/tomogram/emd_4603.mrc",
    ]
    assert "10000/999: no tomogram" in text
    assert not (out / "10001").exists()
    record = json.loads((out / "10000" / "247" / "source.json").read_text())
    assert record["files"][1]["md5"] == hashlib.md5(internet.bodies["/storage/mask"]).hexdigest()


def test_masks_of_listed_annotations_are_joined(internet: Internet, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("dataset_id,run_id,annotation_ids\n10000,TS_037,101|102\n")
    plan = plan_fetch([str(table)], tmp_path / "out", services=internet.services)
    report = fetch_planned(plan)
    assert report.exit_status == 0, report.rows
    truth = tmp_path / "out" / "10000" / "TS_037" / "target_mask" / "TS_037_target_mask.mrc"
    joined = read_mask(truth)
    assert joined.data.min() == 1  # a mask and its complement
    assert joined.geometry.voxel_size == pytest.approx((13.48,) * 3, rel=1e-3)
    assert fetch_planned(plan).rows[0].status is Status.SKIPPED


def test_an_interrupted_fetch_goes_on(internet: Internet, tmp_path: Path) -> None:
    path = f"/files/{KEY}/Tomograms/100/TS_037.mrc"
    internet.cut[path] = [1000, 0]
    config = FetchConfig(annotations=False)
    plan = plan_fetch(["10000/247"], tmp_path / "out", config, services=internet.services)
    broken = fetch_planned(plan, retry=Retry(attempts=1, pause=0))
    assert broken.exit_status == 1
    assert "the same command resumes" in broken.rows[0].message
    assert not (tmp_path / "out/10000/247/tomogram/TS_037.mrc").exists()
    assert fetch_planned(plan, retry=Retry(pause=0)).exit_status == 0
    assert internet.gets(path)[-1] == "bytes=1000-"
    np.testing.assert_array_equal(
        read_tomogram(tmp_path / "out/10000/247/tomogram/TS_037.mrc").data, TOMOGRAM
    )


def test_a_damaged_mask_is_not_kept(internet: Internet, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("dataset_id,run_id\n10000,247\n")
    plan = plan_fetch([str(table)], tmp_path / "out", services=internet.services)
    internet.bodies["/storage/mask"] = internet.bodies["/storage/mask"][:-1] + b"!"
    report = fetch_planned(plan, retry=Retry(pause=0))
    assert "MD5" in report.rows[0].message
    assert below(tmp_path / "out" / "10000" / "247") == ["tomogram/TS_037.mrc"]


def test_an_ome_zarr_volume_gets_its_name_when_it_is_whole(internet: Internet, tmp_path: Path) -> None:
    config = FetchConfig(volume_format=VolumeFormat.OME_ZARR, annotations=False)
    plan = plan_fetch(["10000/247"], tmp_path / "out", config, services=internet.services)
    folder = tmp_path / "out/10000/247/tomogram"
    chunk = f"/bucket/{KEY}/Tomograms/100/TS_037.zarr/0/1/0/1"
    kept = internet.bodies.pop(chunk)
    assert fetch_planned(plan, retry=Retry(attempts=1, pause=0)).exit_status == 1
    assert [path.name for path in folder.iterdir()] == ["TS_037.zarr.incomplete"]
    internet.bodies[chunk] = kept
    report = fetch_planned(plan, retry=Retry(pause=0))
    assert report.exit_status == 0, report.rows
    assert [path.name for path in folder.iterdir()] == ["TS_037.zarr"]
    assert report.rows[0].outputs == (folder / "TS_037.zarr",)
    first = f"/bucket/{KEY}/Tomograms/100/TS_037.zarr/.zattrs"
    assert len(internet.gets(first)) == 1
    volume = read_tomogram(folder / "TS_037.zarr")
    np.testing.assert_array_equal(volume.data, TOMOGRAM)
    assert volume.geometry.voxel_size == (13.48,) * 3


def test_cryoppp_is_unpacked_and_its_archive_removed(
    internet: Internet, tmp_path: Path, run: Callable[..., tuple[int, str]]
) -> None:
    status, text = run("cryoppp:10017")
    assert status == 0, text
    out = tmp_path / "out" / "cryoppp"
    assert below(out) == ["10017/ground_truth/a.csv", "10017/micrographs/a.mrc"]
    assert "exists already" in run("cryoppp:10017")[1]
    assert len(internet.gets("/cryoppp/10017.tar.gz")) == 1


def test_a_damaged_archive_leaves_nothing(internet: Internet, tmp_path: Path) -> None:
    internet.bodies["/cryoppp/10017.tar.gz"] = b"\x1f\x8b nothing"
    plan = plan_fetch(["cryoppp:10017"], tmp_path / "out", services=internet.services)
    report = fetch_planned(plan, retry=Retry(pause=0))
    assert "is damaged" in report.rows[0].message
    assert below(tmp_path / "out") == []


def test_a_login_page_is_no_tomogram(internet: Internet, tmp_path: Path) -> None:
    internet.bodies[f"/files/{KEY}/Tomograms/100/TS_037.mrc"] = b"\n<!DOCTYPE html><html>Sign in</html>"
    plan = plan_fetch(["10000/247"], tmp_path / "out", services=internet.services)
    report = fetch_planned(plan, retry=Retry(pause=0))
    assert "sent a web page instead of data" in report.rows[0].message
    assert "--output-dir" not in report.rows[0].message
    assert "by hand, save http" in report.rows[0].message


def test_offline_asks_nobody(internet: Internet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYOSEG_OFFLINE", "1")
    with pytest.raises(InputError, match="CRYOSEG_OFFLINE is set"):
        plan_fetch(["10000/247"], tmp_path, services=internet.services)
    assert internet.asked == []


def test_paths_from_a_server_stay_below_their_folder(internet: Internet, tmp_path: Path) -> None:
    files = internet.dataverse()["data"]
    files[0]["label"] = "../../evil.mrc"
    internet.dataverse = lambda: {"status": "OK", "data": files}  # type: ignore[method-assign]
    table = tmp_path / "list.csv"
    table.write_text("dataset_id,run_id\n10000,247\n")
    (planned,) = plan_fetch([str(table)], tmp_path / "out", services=internet.services)
    assert "outside its folder; refused" in planned.error
