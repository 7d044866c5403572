"""`download_weights` and `verify_weights` with a table whose addresses lie on the loopback."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest
import torch

from cryoseg.events import Note, StageProgress, Status, Warn
from cryoseg.io.web.download import Retry
from cryoseg.io.web.weight_files import recorded_sha256, sidecar_path
from cryoseg.methods.weights import WEIGHTS, Weights
from cryoseg.pipelines.data.weights import download_weights, list_weights, markdown_table, verify_weights


def torch_file(seed: int) -> bytes:
    buffer = io.BytesIO()
    generator = torch.Generator().manual_seed(seed)
    torch.save({"model": {"a": torch.rand(400_000, generator=generator)}}, buffer)
    return buffer.getvalue()


BODY = torch_file(0)
MD5 = hashlib.md5(BODY).hexdigest()
SHA256 = hashlib.sha256(BODY).hexdigest()
COMMIT = "0" * 40


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv("CRYOSEG_CHECKPOINTS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def entry(server, **changes) -> Weights:
    base = Weights(
        name="w",
        file_name="w.pt",
        purpose="test",
        licence="none",
        paper="none",
        source="loopback",
        url=server.url + "/w.pt",
    )
    return replace(base, **changes)


@pytest.fixture(autouse=True)
def _known_weights():
    """Forget the weights that a test adds to the table."""
    known = dict(WEIGHTS)
    yield
    WEIGHTS.clear()
    WEIGHTS.update(known)


def get(table_entry, folder, **options):
    events = []
    WEIGHTS["w"] = table_entry
    report = download_weights(
        ["w"],
        checkpoints_dir=folder,
        on_event=events.append,
        retry=Retry(pause=0.0, attempts=2),
        **options,
    )
    return report.rows[0], events


def zenodo(checksum: str = "md5:" + MD5, *, name: str = "w.pt") -> bytes:
    record = {"files": [{"key": name, "size": len(BODY), "checksum": checksum}]}
    return json.dumps(record).encode()


def test_known_digest(file_server, served, home):
    file_server.files["/w.pt"] = served(BODY)
    row, events = get(entry(file_server, md5=MD5), home / "out")
    assert row.status is Status.DONE
    assert row.outputs == (home / "out" / "w.pt",)
    assert row.outputs[0].read_bytes() == BODY
    assert recorded_sha256(row.outputs[0]) == SHA256
    assert sorted(path.name for path in (home / "out").iterdir()) == ["w.pt", "w.pt.sha256"]
    progress = [event for event in events if isinstance(event, StageProgress)]
    assert progress[-1].done == progress[-1].total == len(BODY) // 10**6
    assert events[-1] == row


def test_second_download_verifies_and_keeps(file_server, served, home):
    file_server.files["/w.pt"] = served(BODY)
    get(entry(file_server, md5=MD5), home / "out")
    row, _ = get(entry(file_server, md5=MD5), home / "out")
    assert row.status is Status.SKIPPED
    assert "kept" in row.message
    assert len(file_server.gets("/w.pt")) == 1


def test_changed_file_is_neither_kept_in_silence_nor_overwritten(file_server, served, home):
    file_server.files["/w.pt"] = served(BODY)
    (home / "out").mkdir()
    (home / "out" / "w.pt").write_bytes(torch_file(1))
    row, _ = get(entry(file_server, md5=MD5), home / "out")
    assert row.status is Status.FAILED
    assert "is not the published file" in row.message
    assert (home / "out" / "w.pt").read_bytes() == torch_file(1)


def test_file_elsewhere_on_the_search_path_counts(file_server, served, home):
    file_server.files["/w.pt"] = served(BODY)
    (home / "work" / "checkpoints").mkdir()
    (home / "work" / "checkpoints" / "w.pt").write_bytes(BODY)
    assert get(entry(file_server, md5=MD5), None)[0].status is Status.SKIPPED
    assert get(entry(file_server, md5=MD5), home / "out")[0].status is Status.DONE


def test_default_folder_is_the_cache(file_server, served, home, monkeypatch):
    file_server.files["/w.pt"] = served(BODY)
    monkeypatch.setattr(sys, "platform", "linux")
    row, _ = get(entry(file_server, md5=MD5), None)
    assert row.outputs == (home / "cache" / "cryoseg" / "w.pt",)


@pytest.mark.parametrize(
    "record",
    [
        zenodo(),
        json.dumps(
            {"files": {"entries": {"w.pt": {"key": "w.pt", "size": len(BODY), "checksum": "md5:" + MD5}}}}
        ).encode(),
        json.dumps({"files": [{"filename": "w.pt", "size": len(BODY), "checksum": MD5.upper()}]}).encode(),
    ],
)
def test_zenodo_record_gives_the_md5(file_server, served, home, record):
    file_server.files["/record"] = served(record, content_type="application/json")
    file_server.files["/w.pt"] = served(BODY)
    row, _ = get(entry(file_server, record_url=file_server.url + "/record"), home / "out")
    assert row.status is Status.DONE, row.message
    assert recorded_sha256(home / "out" / "w.pt") == SHA256


def test_corruption_is_seen_through_the_zenodo_record(file_server, served, home):
    file_server.files["/record"] = served(zenodo("md5:" + "0" * 32), content_type="application/json")
    file_server.files["/w.pt"] = served(BODY)
    row, _ = get(entry(file_server, record_url=file_server.url + "/record"), home / "out")
    assert row.status is Status.FAILED
    assert "arrived damaged: its MD5 is" in row.message
    assert not (home / "out" / "w.pt").exists()


@pytest.mark.parametrize(
    "record",
    [
        b"{}",
        b"[]",
        b'{"files": [3]}',
        b'{"files": null}',
        zenodo(name="other.pt"),
        zenodo("md5:xyz"),
        zenodo("sha1:0"),
    ],
)
def test_record_without_digest_stops_before_the_transfer(file_server, served, home, record):
    file_server.files["/record"] = served(record, content_type="application/json")
    file_server.files["/w.pt"] = served(BODY)
    row, _ = get(entry(file_server, record_url=file_server.url + "/record"), home / "out")
    assert row.status is Status.FAILED
    assert "gives no MD5 sum for w.pt" in row.message
    assert file_server.gets("/w.pt") == []


def hub_server(file_server, served, *, etag: str = SHA256, body: bytes = BODY):
    path = "/facebook/test/resolve/main/w.pt"
    file_server.files[path] = served(
        redirect=file_server.url.replace("127.0.0.1", "localhost")
        + "/cdn/w.pt",  # another host, as the hub's CDN
        headers={"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(body))},
    )
    file_server.files["/cdn/w.pt"] = served(body)
    return entry(file_server, url="https://huggingface.co/unused", hub=("facebook/test", "w.pt"))


def test_hub_gives_address_and_digest(file_server, served, home, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", file_server.url + "/")
    source = hub_server(file_server, served)
    file_server.files["/cdn/w.pt"].cut.append(1_000_000)
    row, _ = get(source, home / "out")
    assert row.status is Status.DONE, row.message
    assert (home / "out" / "w.pt").read_bytes() == BODY
    assert recorded_sha256(home / "out" / "w.pt") == SHA256
    assert file_server.gets("/cdn/w.pt") == ["", "bytes=1000000-"]


def test_corruption_is_seen_through_the_hub(file_server, served, home, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    row, _ = get(hub_server(file_server, served, etag="f" * 64), home / "out")
    assert row.status is Status.FAILED
    assert "its SHA256 is" in row.message


def test_hub_with_another_file_stops_before_the_transfer(file_server, served, home, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    row, _ = get(replace(hub_server(file_server, served), sha256="f" * 64), home / "out")
    assert row.status is Status.FAILED
    assert "now holds another file" in row.message
    assert file_server.gets("/cdn/w.pt") == []


def test_hub_behind_a_firewall(file_server, served, home, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", file_server.url)
    row, _ = get(
        entry(file_server, url="https://huggingface.co/x", hub=("facebook/none", "w.pt")), home / "out"
    )
    assert row.status is Status.FAILED
    assert "the hub does not respond" in row.message
    assert f"get https://huggingface.co/x on any machine, put it at {home / 'out' / 'w.pt'}" in row.message


@pytest.mark.parametrize("variable", ["CRYOSEG_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_touches_no_network_and_says_how_by_hand(file_server, served, home, monkeypatch, variable):
    file_server.files["/w.pt"] = served(BODY)
    monkeypatch.setenv(variable, "1")
    row, _ = get(entry(file_server, md5=MD5, record_url=file_server.url + "/record"), home / "out")
    assert row.status is Status.FAILED
    for part in (
        f"{variable} is set",
        file_server.url + "/w.pt",
        str(home / "out" / "w.pt"),
        "weights verify w",
    ):
        assert part in row.message
    assert file_server.log == []
    # What is there already is served offline too.
    (home / "out").mkdir()
    (home / "out" / "w.pt").write_bytes(BODY)
    assert get(entry(file_server, md5=MD5), home / "out")[0].status is Status.SKIPPED


def test_html_error_leaves_nothing(file_server, served, home):
    file_server.files["/w.pt"] = served(b"<html>sign in</html>", content_type="text/html")
    row, _ = get(entry(file_server, md5=MD5), home / "out")
    assert row.status is Status.FAILED
    assert "instead of weights" in row.message
    assert not [path for path in (home / "out").iterdir() if not path.name.endswith(".lock")]


def test_unpublished_digest_needs_a_whole_file(file_server, served, home):
    file_server.files["/w.pt"] = served(BODY)
    row, _ = get(entry(file_server), home / "out")
    assert row.status is Status.DONE
    assert "no digest to compare with" in row.message
    assert recorded_sha256(row.outputs[0]) is None
    file_server.files["/w.pt"] = served(BODY[:-500])
    row, _ = get(entry(file_server), home / "other")
    assert row.status is Status.FAILED
    assert "truncated or damaged" in row.message
    assert not (home / "other" / "w.pt").exists()


def test_two_processes_fetch_once(file_server, served, home):
    file_server.files["/w.pt"] = served(BODY, seconds=1.0)
    script = f"""
        import pathlib, sys
        from cryoseg.methods.weights import WEIGHTS, Weights
        from cryoseg.pipelines.data.weights import download_weights
        WEIGHTS["w"] = Weights(name="w", file_name="w.pt", purpose="", licence="", paper="", source="",
                               url={file_server.url + "/w.pt"!r}, md5={MD5!r})
        report = download_weights(["w"], checkpoints_dir=pathlib.Path({str(home / "out")!r}))
        print(report.rows[0].status, report.rows[0].message)
        sys.exit(report.exit_status)
    """
    workers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [worker.communicate(timeout=60)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    assert sorted(text.split()[0] for text in said) == ["done", "skipped"]
    assert len(file_server.gets("/w.pt")) == 1
    assert (home / "out" / "w.pt").read_bytes() == BODY


def test_waiting_is_told(file_server, served, home):
    import threading

    from cryoseg.io.outputs import lock

    file_server.files["/w.pt"] = served(BODY)
    release, held = threading.Event(), threading.Event()

    def hold():
        with lock(home / "out" / "w.pt"):
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(10)
    events = []

    def on_event(event):
        events.append(event)
        if isinstance(event, Note) and "waiting" in event.text:
            release.set()

    WEIGHTS["w"] = entry(file_server, md5=MD5)
    report = download_weights(["w"], checkpoints_dir=home / "out", on_event=on_event)
    holder.join()
    assert report.rows[0].status is Status.DONE
    assert release.is_set()


# --- verify -------------------------------------------------------------------------------------


@pytest.fixture
def installed(home):
    (home / "out").mkdir()
    (home / "out" / "w.pt").write_bytes(BODY)
    return home / "out"


def check(table_entry, folder, *names):
    events = []
    WEIGHTS["w"] = table_entry
    report = verify_weights(names, checkpoints_dir=folder, on_event=events.append)
    return report, events


def test_verify_published(file_server, installed):
    report, _ = check(entry(file_server, md5=MD5), installed, "w")
    assert report.rows[0].status is Status.DONE
    assert report.rows[0].message == "MD5 as published"
    assert recorded_sha256(installed / "w.pt") == SHA256


def test_verify_by_the_zenodo_record_once_then_by_the_sidecar(file_server, served, installed):
    file_server.files["/record"] = served(zenodo(), content_type="application/json")
    table_entry = entry(file_server, record_url=file_server.url + "/record")
    assert check(table_entry, installed, "w")[0].rows[0].message == "MD5 as published"
    assert check(table_entry, installed)[0].rows[0].message == "SHA-256 as recorded"
    assert len(file_server.log) == 1


def test_verify_without_any_digest(file_server, served, installed):
    report, events = check(entry(file_server, record_url=file_server.url + "/missing"), installed, "w")
    assert report.rows[0].status is Status.SKIPPED
    assert SHA256 in report.rows[0].message
    assert report.exit_status == 0
    assert any(isinstance(event, Warn) for event in events)


def test_verify_offline_asks_nobody(file_server, installed, monkeypatch):
    monkeypatch.setenv("CRYOSEG_OFFLINE", "1")
    report, _ = check(entry(file_server, record_url=file_server.url + "/record"), installed, "w")
    assert report.rows[0].status is Status.SKIPPED
    assert file_server.log == []


def test_verify_finds_a_change_since_the_record(file_server, installed):
    sidecar_path(installed / "w.pt").write_text(f"{SHA256}  w.pt\n")
    (installed / "w.pt").write_bytes(torch_file(1))
    report, _ = check(entry(file_server), installed, "w")
    assert report.exit_status == 1
    assert "has changed since it was verified" in report.rows[0].message


def test_verify_files_names_and_nonsense(file_server, installed):
    other = installed / "mine.pt"
    other.write_bytes(torch_file(2))
    page = installed / "page.pt"
    page.write_bytes(b"<html></html>")
    report, _ = check(
        entry(file_server, md5=MD5),
        installed,
        str(other),
        str(page),
        str(installed / "w.pt"),
        str(installed / "no.pt"),
    )
    assert [row.status for row in report.rows] == [Status.SKIPPED, Status.FAILED, Status.DONE, Status.FAILED]
    assert "an HTML page" in report.rows[1].message
    assert "no such file" in report.rows[3].message


def test_verify_missing_weights_says_where(file_server, home):
    report, _ = check(entry(file_server), home / "nowhere", "w")
    assert report.rows[0].status is Status.FAILED
    assert "not found in" in report.rows[0].message
    rows = check(entry(file_server), home / "nowhere")[0].rows
    assert "w.pt" not in " ".join(row.name for row in rows)


# --- list ---------------------------------------------------------------------------------------


def test_list_tells_found_and_missing(file_server, installed):
    WEIGHTS["w"] = entry(file_server)
    rows = list_weights(checkpoints_dir=installed)
    assert (rows[-1].found, rows[-1].path, rows[-1].hash_status) == (True, installed / "w.pt", "not verified")
    by_name = {row.weights.name: row for row in rows}
    assert list(by_name) == list(WEIGHTS)
    assert by_name["etsam_stage1"].path == installed / "etsam_stage1_v1.pt"
    assert by_name["sam_vit_b"].hash_status == "MD5 known"


def test_committed_table_is_current(pytestconfig):
    committed = (pytestconfig.rootpath / "checkpoints" / "README.md").read_text(encoding="utf-8")
    assert markdown_table() in committed, "run `cryoseg weights list --markdown` and paste the table"
