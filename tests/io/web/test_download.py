"""Transfers from a loopback server that breaks in every way a network does."""

from __future__ import annotations

import hashlib
import json
import socket
import urllib.error
from email.message import Message

import pytest

from cryoseg.errors import WeightsError
from cryoseg.io.web.download import Expected, Retry, fetch, offline_variable
from cryoseg.io.web.http import NoDowngrade, explain, fetch_json

# The first bytes of a zip, then bytes that do not repeat within a block.
BODY = b"PK\x03\x04" + hashlib.shake_256(b"weights").digest(3_000_000)
GOOD = Expected(md5=hashlib.md5(BODY).hexdigest(), sha256=hashlib.sha256(BODY).hexdigest(), size=len(BODY))
PATH = "/w.pt"


def get(server, tmp_path, *, expected=GOOD, path=PATH, attempts=4, **options):
    return fetch(
        server.url + path,
        tmp_path / "w.pt",
        expected=expected,
        retry=Retry(timeout=5, attempts=attempts, pause=0.0),
        **options,
    )


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_whole_file(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY)
    seen = []
    fetched = get(file_server, tmp_path, on_bytes=lambda done, total: seen.append((done, total)))
    assert fetched.path.read_bytes() == BODY
    assert fetched.sha256 == GOOD.sha256
    assert fetched.verified
    assert names(tmp_path) == ["w.pt"]
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_interrupted_transfer_resumes_where_it_broke(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY, cut=[1_500_000, 700_000])
    assert get(file_server, tmp_path).path.read_bytes() == BODY
    assert file_server.gets(PATH) == ["", "bytes=1500000-", "bytes=2200000-"]


def test_next_call_resumes_what_an_earlier_one_left(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY, cut=[1_000_000, 0])
    with pytest.raises(WeightsError, match=r"broke off; 1\.0 MB are kept, the same command resumes"):
        get(file_server, tmp_path, attempts=1)
    assert names(tmp_path) == ["w.pt.part", "w.pt.part.json"]
    file_server.files[PATH].cut.clear()
    assert get(file_server, tmp_path).path.read_bytes() == BODY
    assert file_server.gets(PATH)[-1] == "bytes=1000000-"
    assert names(tmp_path) == ["w.pt"]


def test_truncated_for_ever_gives_up_without_a_file(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY, cut=[1000] + [0] * 20)
    with pytest.raises(WeightsError, match=r"the connection broke off; .*"):
        get(file_server, tmp_path, attempts=3)
    assert not (tmp_path / "w.pt").exists()
    assert len(file_server.gets(PATH)) <= 5


def test_server_without_ranges_starts_again(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY, ranges=False, cut=[2_000_000])
    assert get(file_server, tmp_path).path.read_bytes() == BODY
    assert file_server.gets(PATH) == ["", "bytes=2000000-"]


def test_server_without_ranges_that_always_breaks_ends(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY, ranges=False, cut=[2_000_000] * 30)
    with pytest.raises(WeightsError, match="broke off"):
        get(file_server, tmp_path, attempts=3)
    assert len(file_server.gets(PATH)) <= 5


def test_changed_file_is_not_glued_to_the_old_start(file_server, served, tmp_path):
    old = served(b"PK\x03\x04" + bytes(2_999_996) + b"old.", etag='"old"', cut=[1_000_000])
    file_server.files[PATH] = old
    with pytest.raises(WeightsError):
        get(file_server, tmp_path, attempts=1)
    file_server.files[PATH] = served(BODY, etag='"new"')
    assert get(file_server, tmp_path, expected=Expected()).path.read_bytes() == BODY


def test_changed_file_without_version_is_caught_by_the_digest(file_server, served, tmp_path):
    file_server.files[PATH] = served(b"PK\x03\x04" + bytes(len(BODY) - 4), etag="", cut=[1_000_000])
    with pytest.raises(WeightsError):
        get(file_server, tmp_path, attempts=1)
    file_server.files[PATH] = served(BODY, etag="")
    assert get(file_server, tmp_path).path.read_bytes() == BODY
    assert file_server.gets(PATH) == ["", "bytes=1000000-", ""]


def test_no_resume_without_version_and_digest(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY, etag="", cut=[1_000_000])
    fetched = get(file_server, tmp_path, expected=Expected())
    assert fetched.path.read_bytes() == BODY
    assert not fetched.verified
    assert file_server.gets(PATH) == ["", ""]


def test_wrong_part_of_the_file_is_not_used(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY, cut=[1_000_000], content_range="bytes 5-9/10")
    assert get(file_server, tmp_path).path.read_bytes() == BODY
    assert file_server.gets(PATH) == ["", "bytes=1000000-", ""]


def test_range_not_satisfiable_starts_again(file_server, served, tmp_path):
    (tmp_path / "w.pt.part").write_bytes(BODY + b"more")
    notes = {"url": file_server.url + PATH, "validator": '"v1"', "total": None}
    (tmp_path / "w.pt.part.json").write_text(json.dumps(notes))
    file_server.files[PATH] = served(BODY)
    assert get(file_server, tmp_path).path.read_bytes() == BODY


@pytest.mark.parametrize(
    "notes", ["", "{}", "[]", '{"url": "http://elsewhere", "validator": "x", "total": 5}']
)
def test_part_of_unknown_origin_is_dropped(file_server, served, tmp_path, notes):
    (tmp_path / "w.pt.part").write_bytes(b"PK\x03\x04 something else")
    (tmp_path / "w.pt.part.json").write_text(notes)
    file_server.files[PATH] = served(BODY)
    assert get(file_server, tmp_path).path.read_bytes() == BODY
    assert file_server.gets(PATH) == [""]


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        (Expected(md5="0" * 32), r"its MD5 is [0-9a-f]{32} where 0{32} is published"),
        (Expected(sha256="0" * 64), r"its SHA256 is [0-9a-f]{64} where 0{64} is published"),
        (Expected(size=5), "it has 3000004 bytes where 5 are published"),
    ],
)
def test_corrupted_file_never_gets_its_name(file_server, served, tmp_path, expected, words):
    file_server.files[PATH] = served(BODY)
    with pytest.raises(WeightsError, match="arrived damaged: " + words + "; nothing was kept"):
        get(file_server, tmp_path, expected=expected)
    assert names(tmp_path) == []
    assert len(file_server.gets(PATH)) == 1


def test_redirects_are_followed_also_when_resuming(file_server, served, tmp_path):
    file_server.files["/a"] = served(redirect="/b")
    file_server.files["/b"] = served(redirect=file_server.url + PATH)
    file_server.files[PATH] = served(BODY, cut=[1_000_000])
    assert get(file_server, tmp_path, path="/a").path.read_bytes() == BODY
    assert file_server.gets(PATH) == ["", "bytes=1000000-"]


def test_redirect_loop_ends(file_server, served, tmp_path):
    file_server.files["/a"] = served(redirect="/a")
    with pytest.raises(WeightsError, match="302"):
        get(file_server, tmp_path, path="/a")


def test_redirect_from_https_to_http_is_refused():
    class Request:
        full_url = "https://example.org/w.pt"

    with pytest.raises(WeightsError, match="not encrypted; refused"):
        NoDowngrade().redirect_request(Request(), None, 302, "Found", Message(), "http://example.org/w.pt")


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (b"<!DOCTYPE html><title>Login</title>", "text/html; charset=utf-8", "a web page .text/html."),
        (b"\n <!doctype HTML>", "application/octet-stream", "an HTML page"),
        (b"<Error><Code>AccessDenied</Code></Error>", "binary/octet-stream", "an XML or HTML text"),
        (b'{"status": 404}', "application/octet-stream", "a JSON text"),
        (b"version https://git-lfs.github.com/spec/v1\n", "application/octet-stream", "a git-lfs pointer"),
        (b"Rate limit exceeded", "text/plain", "a plain text"),
        (b"", "application/octet-stream", "an empty file"),
        (bytes(100), "application/octet-stream", "neither a torch file nor safetensors"),
    ],
)
def test_error_pages_are_not_taken_for_weights(file_server, served, tmp_path, body, content_type, words):
    file_server.files[PATH] = served(body, content_type=content_type)
    with pytest.raises(WeightsError, match=words):
        get(file_server, tmp_path, expected=Expected())
    assert names(tmp_path) == []


def test_login_page_does_not_cost_the_bytes_already_here(file_server, served, tmp_path):
    file_server.files[PATH] = served(BODY, cut=[2_000_000])
    with pytest.raises(WeightsError):
        get(file_server, tmp_path, attempts=1)
    file_server.files[PATH] = served(b"<html>log in</html>", content_type="text/html", ranges=False)
    with pytest.raises(WeightsError, match="firewall page"):
        get(file_server, tmp_path)
    file_server.files[PATH] = served(BODY)
    assert get(file_server, tmp_path).path.read_bytes() == BODY
    assert file_server.gets(PATH)[-1] == "bytes=2000000-"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_hopeless_answers_are_not_asked_again(file_server, served, tmp_path, status):
    file_server.files[PATH] = served(b"no", status=status)
    with pytest.raises(WeightsError, match=f"answered {status} "):
        get(file_server, tmp_path)
    assert len(file_server.gets(PATH)) == 1


def test_busy_server_is_asked_again(file_server, served, tmp_path):
    file_server.files[PATH] = served(b"busy", status=503)
    with pytest.raises(WeightsError, match="answered 503"):
        get(file_server, tmp_path, attempts=3)
    assert len(file_server.gets(PATH)) == 3


def test_nobody_listens(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/w.pt"
        with pytest.raises(WeightsError, match=r"connection was refused \(a firewall or proxy\?\)\."):
            fetch(url, tmp_path / "w.pt", expected=GOOD, retry=Retry(attempts=2, pause=0.0))


def test_silent_server_times_out(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/w.pt"
        with pytest.raises(WeightsError, match="does not answer"):
            fetch(url, tmp_path / "w.pt", expected=GOOD, retry=Retry(attempts=1, pause=0.0, timeout=0.2))


def test_full_disk_is_told_before_the_transfer(file_server, served, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr("cryoseg.io.web.download.shutil.disk_usage", lambda folder: usage)
    file_server.files[PATH] = served(BODY)
    with pytest.raises(WeightsError, match="3 MB are needed and 1 MB are free"):
        get(file_server, tmp_path)


def test_names_that_do_not_resolve_in_words():
    assert "cannot be resolved" in explain(urllib.error.URLError(socket.gaierror(-2, "unknown")))


def test_json(file_server, served):
    file_server.files["/r"] = served(b'{"files": []}', content_type="application/json")
    file_server.files["/page"] = served(b"<html>", content_type="text/html")
    assert fetch_json(file_server.url + "/r") == {"files": []}
    with pytest.raises(WeightsError, match="not JSON"):
        fetch_json(file_server.url + "/page")
    with pytest.raises(WeightsError, match="answered 404"):
        fetch_json(file_server.url + "/missing")


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, None),
        ({"CRYOSEG_OFFLINE": "0", "HF_HUB_OFFLINE": ""}, None),
        ({"CRYOSEG_OFFLINE": "1"}, "CRYOSEG_OFFLINE"),
        ({"HF_HUB_OFFLINE": "TRUE"}, "HF_HUB_OFFLINE"),
    ],
)
def test_offline_switches(environment, variable):
    assert offline_variable(environment) == variable
