"""The guards of the web app before a real Gradio page, in a process of its own."""

import io
import json
import os
import re
import socket
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from browser import serving
from guarded_page import SECRET
from lpprop.app.files import temporary_root

pytest.importorskip("gradio")

PAGE = str(Path(__file__).with_name("guarded_page.py"))
FORM = "limit"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving([PAGE, "PORT", "1"], tmp_path_factory.mktemp("guarded")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    from gradio_client import Client

    client = Client(server.address, verbose=False, download_files=False)
    yield client
    client.close()


def sentence(client, *values, of):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as caught:
        client.predict(*values, api_name=of)
    return str(caught.value)


def form(content, name):
    head = f'Content-Disposition: form-data; name="files"; filename="{name}"'
    return f"--{FORM}\r\n{head}\r\n\r\n".encode() + content + f"\r\n--{FORM}--\r\n".encode()


def upload(server, content, name="a.png"):
    kind = {"Content-Type": f"multipart/form-data; boundary={FORM}"}
    return server.get("/gradio_api/upload", form(content, name), kind)


def call(server, name, *values):
    """Call by plain HTTP, as anybody can; return what came of it."""
    status, answer = server.post(f"/gradio_api/call/{name}", {"data": list(values)})
    if status != 200:
        return f"{status} {answer['detail']}"
    status, _, body = server.get(f"/gradio_api/call/{name}/{answer['event_id']}")
    # Before it there may be signs of life.
    kind, data = re.findall(r"event: (\w+)\ndata: (.*)", body.decode())[-1]
    return json.loads(data)["error"] if kind == "error" else json.loads(data)


def png(colour="red", size=(64, 64)):
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def root(server):
    (folder,) = server.log.parent.glob(f"lpprop-app-{server.process.pid}-*")
    return folder


def files(server):
    """The files that hold something: Gradio leaves an empty one per upload, which goes by age."""
    return {path for path in root(server).rglob("*") if path.is_file() and path.stat().st_size}


# ---------------------------------------------------------------------------------- the sentences


def test_errors_are_sentences_without_html(client):
    said = sentence(client, "<i>sky</i>", of="/refuse")
    assert said == "words: got &lt;b&gt;&lt;i&gt;sky&lt;/i&gt;&lt;/b&gt;, expected others."


def test_an_unexpected_error_tells_a_number_and_logs_where_without_what(server, client):
    said = sentence(client, "private", of="/fail")
    number = re.search(r"the number (\w{8})\.$", said).group(1)
    log = server.log.read_text()
    assert re.search(rf"^{number}: RuntimeError at .*guarded_page\.py:\d+$", log, re.M)
    assert SECRET not in said + log
    assert "private" not in said + log


def test_endless_work_ends(client):
    start = time.monotonic()
    assert "more than 1 seconds" in sentence(client, "x", of="/work_for_ever")
    assert time.monotonic() - start < 30
    assert client.predict("x", api_name="/doubt") == "x"


@pytest.mark.parametrize(
    "value", [99, -1, "abc", None, [], {"a": 1}, float("nan"), 1e400, "1" * 999]
)
def test_values_that_a_field_does_not_take(server, value):
    said = call(server, "level", value)
    assert re.search("^Value .*(greater|less) than|^A value was sent that|^400 .*not finite", said)


def test_no_value_and_no_name_is_logged(server):
    for name in ("level", "very_private"):
        call(server, name, "very_private")
    assert "very_private" not in server.log.read_text()


def test_an_event_that_the_page_does_not_have(server):
    assert call(server, "none").startswith("500 Something went wrong here")


# ---------------------------------------------------------------------------------- jobs


def test_jobs_run_one_at_a_time(client):
    jobs = [client.submit(api_name="/count") for _ in range(20)]
    assert [job.result() for job in jobs] == [1] * 20


def test_a_full_queue_is_told(server):
    """60 at once, where one runs and 32 wait; the page lives on."""
    waiting = [server.post("/gradio_api/call/count", {"data": []}) for _ in range(60)]
    status = [status for status, _ in waiting]
    assert set(status) <= {200, 503}
    refused = [answer["detail"] for status, answer in waiting if status == 503]
    assert all("Queue is full" in detail for detail in refused)
    assert len(refused) > 10
    limit = time.monotonic() + 20
    while (said := call(server, "doubt", "there")) != ["there"] and time.monotonic() < limit:
        time.sleep(0.1)
    assert said == ["there"]


# ---------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd", "/gradio_api/file=%2Fetc%2Fpasswd",
        "/gradio_api/file=../../../../../../etc/passwd", "/gradio_api/file=//etc/passwd",
        "/gradio_api/file=/tmp/../etc/passwd", "/gradio_api/file=/proc/self/environ",
        "/gradio_api/file=C:/Windows/win.ini", "/file=/etc/passwd", "/file/etc/passwd",
        "/gradio_api/file/etc/passwd", "/static/../../../../etc/passwd",
        "/static/..%2f..%2f..%2f..%2f..%2fetc/passwd", "/assets/..%2f..%2f..%2f..%2fetc/passwd",
        "/svelte/..%2f..%2f..%2fetc/passwd", "/custom_component/../../etc/passwd",
        "/gradio_api/file=http://example.com/", "/gradio_api/file=https:/example.com",
        "/gradio_api/file=HTTP://example.com/", "/gradio_api/file=file:///etc/passwd",
        "/gradio_api/proxy=https://example.com/", "/gradio_api/runs", "/monitoring",
        "/monitoring/summary", "/docs", "/redoc", "/gradio_api/dev/reload",
        "/gradio_api/deep_link", "/gradio_api/vibe-code", "/gradio_api/profiling/traces",
        "/gradio_api/token",
    ],
)  # fmt: skip
def test_nothing_of_the_server_and_nothing_outside_is_served(server, path):
    status, _, body = server.get(path)
    assert status in (403, 404)
    assert b"root:" not in body
    assert len(body) < 200


@pytest.mark.parametrize(
    "path", ["process_recording", "run/doubt", "api/doubt", "call/v2/doubt", "vibe-edit", "queue/x"]
)
def test_what_the_page_does_not_post_is_refused(server, path):
    assert server.post(f"/gradio_api/{path}", {"data": ["x"]})[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods(server, method):
    assert server.get("/", method=method)[0] == 404


def labelled(path):
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize("make", [labelled, lambda path: {"path": path}])
def test_no_file_of_the_server_is_opened(server, tmp_path, make):
    """With Gradio's label of a file and without."""
    (tmp_path / "private.png").write_bytes(png())
    said = call(server, "open", make(str(tmp_path / "private.png")))
    assert "went wrong" in said or "a file that was not uploaded" in said
    link = root(server) / f"{tmp_path.name}.png"
    link.symlink_to(tmp_path / "private.png")
    said = call(server, "open", make(str(link)))
    assert "went wrong" in said or "a file that was not uploaded" in said


@pytest.mark.parametrize("make", [labelled, lambda path: {"path": path}])
@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:1/a.png", "HTTPS://example.com/a.png", " http://a/", "ftp://a/b"]
)
def test_no_address_is_fetched(server, make, path):
    assert call(server, "open", make(path)) == (
        "400 Files are taken by upload alone, not by address."
    )


def test_images_in_the_request_are_refused(server):
    said = call(server, "open", {"url": "data:image/png;base64,AAAA", "path": None})
    assert said.startswith("400 ")


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 10**5, b'{"data": 1e999}', b"\xff\xfe"])
def test_bodies_that_are_no_request(server, body):
    status, *_ = server.get("/gradio_api/queue/join", body, {"Content-Type": "application/json"})
    assert status in (400, 411, 422)


def test_large_requests_are_refused_before_they_are_read(server):
    for path, length, most in (
        ("queue/join", 2**20 + 1, b"At most 1 MiB"),
        ("upload", 20 * 2**20 + 2**14 + 1, b"At most 20 MiB"),
        ("upload", 10**15, b"At most 20 MiB"),
        ("upload", -1, b"is not told"),
    ):
        host, port = server.address.removeprefix("http://").split(":")
        told = f"Content-Length: {length}" if length > 0 else "Transfer-Encoding: chunked"
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(
                f"POST /gradio_api/{path} HTTP/1.1\r\nHost: {host}\r\n{told}\r\n\r\n".encode()
            )
            assert most in b"".join(iter(lambda: connection.recv(999), b""))


# ---------------------------------------------------------------------------------- files


@pytest.mark.parametrize("name", ["a.png", "<b>'\n.svg", "../../x.png", "%2e%2e%2fx", "a" * 300])
def test_uploads_of_any_name_stay_in_the_folder(server, name):
    before = files(server)
    status, _, body = upload(server, png(), name.replace("\n", "%0A"))
    if status == 200:
        (path,) = json.loads(body)
        assert root(server) in Path(path).resolve().parents
        assert isinstance(call(server, "open", labelled(path)), list)
    assert status in (200, 400, 500)
    assert all(root(server) in path.resolve().parents for path in files(server) - before)


def test_the_files_of_a_session_go_with_it(server):
    """Two users upload the same image: it goes with the second of them."""
    from gradio_client import Client, handle_file

    path = server.log.parent / "shared.png"
    path.write_bytes(png("teal"))
    before = files(server)
    clients = [Client(server.address, verbose=False, download_files=False) for _ in range(2)]
    left = []
    for client in clients:
        client.predict(handle_file(str(path)), api_name="/open")
    for client in clients:
        made = files(server) - before
        end_visit(server, client)
        left.append((len(made), len(files(server) - before)))
    assert left == [(3, 2), (2, 0)]


def end_visit(server, client):
    """Do as a browser does whose tab is closed."""
    count = len(files(server))
    with urllib.request.urlopen(
        f"{server.address}/gradio_api/heartbeat/{client.session_hash}", timeout=20
    ) as stream:
        assert stream.readline() == b"data: ALIVE\n"
    limit = time.monotonic() + 20
    while len(files(server)) == count and time.monotonic() < limit:
        time.sleep(0.05)
    client.close()


def test_the_folder_goes_with_the_process(tmp_path, monkeypatch):
    """Also what a process that was killed has left; not what one that lives has."""
    gone = tmp_path / "lpprop-app-999999999-x"
    lives = tmp_path / f"lpprop-app-{os.getpid()}-x"
    for folder in (gone, lives):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_root() as root:
        assert not gone.exists()
        assert lives.exists()
        (root / "a").write_text("x")
    assert not root.exists()
