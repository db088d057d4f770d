"""Servers in processes of their own, and a real browser that looks at them.

A Chromium is the one that CHROMIUM names, or one of the system, or the one that
`playwright install chromium` has brought; without one the tests skip.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
COMMANDS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Importing PyTorch and Gradio takes long where other tests run beside.
START_SECONDS = 120


class Server(NamedTuple):
    """A server that answers: where, its process, and the file of all that it has printed."""

    address: str
    process: subprocess.Popen
    log: Path

    def get(self, path, data=None, headers=None, method=None):
        """Return the status, the headers and the body of one answer; no error is raised."""
        request = urllib.request.Request(self.address + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    def post(self, path, value):
        """Send JSON; return the status and the value that came back."""
        data = json.dumps(value).encode()
        status, _, body = self.get(path, data, {"Content-Type": "application/json"})
        return status, json.loads(body)

    def memory(self):
        """The process's memory in MB, as Linux counts it."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1000

    def threads(self):
        """The number of the process's threads."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def serving(arguments, folder, **environment):
    """Run a server until the block ends.

    Args:
        arguments: the Python's; "PORT" in them stands for a free port.
        folder: where its log and its temporary files go.
        environment: variables to add, with "PORT" likewise.
    """
    port = free_port()
    log = folder / f"server-{port}.log"
    command = [sys.executable, *(word.replace("PORT", str(port)) for word in arguments)]
    here = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")]),
        "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1",
        **{name: value.replace("PORT", str(port)) for name, value in environment.items()},
    }  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=here, stdout=output, stderr=subprocess.STDOUT
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    try:
        wait(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            pytest.fail("the server did not stop when it was told to")


def wait(server):
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit:
        if server.process.poll() is not None:
            pytest.fail(f"the server ended: {server.log.read_text()[-2000:]}")
        with contextlib.suppress(OSError):
            if server.get("/")[0] == 200:
                return
        time.sleep(0.05)
    pytest.fail(f"the server does not answer: {server.log.read_text()[-2000:]}")


# ------------------------------------------------------------------------------------- the browser


def find_chromium():
    """Return the browser's path, None if there is none."""
    named = os.environ.get("CHROMIUM")
    if named:
        return named
    for command in COMMANDS:
        if found := shutil.which(command):
            return found
    return None


@contextlib.contextmanager
def browsing():
    """Start a browser, or skip."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(
                executable_path=find_chromium(), args=["--no-sandbox"]
            )
        except api.Error as error:
            if find_chromium() is not None:
                raise
            pytest.skip(f"there is no Chromium: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


class Watched(NamedTuple):
    """A page, and what it should not do: errors on its console, requests elsewhere."""

    page: object
    errors: list
    foreign: list

    def check(self):
        """Require that there was none."""
        assert self.errors == []
        assert self.foreign == []


@contextlib.contextmanager
def visit(browser, address, *, width=1280, height=900, **options):
    """Open an address as a new user; the page is watched until the block ends.

    Args:
        browser: the browser.
        address: a server's, or that of a page of it.
        width: of the window, in pixels.
        height: of the window, in pixels.
        options: of the browser's new context, such as color_scheme="dark".
    """
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    watched = Watched(page, [], [])
    host = address.split("/")[2]

    def console(message):
        if message.type == "error":
            watched.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def request(sent):
        local = sent.url.startswith(("data:", "blob:", "about:"))
        if not local and sent.url.split("/")[2] != host:
            watched.foreign.append(sent.url)

    page.on("console", console)
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on("request", request)
    # What a page asks of other hosts would otherwise wait until the name is not found.
    page.route(
        lambda url: url.startswith("http") and url.split("/")[2] != host,
        lambda route: route.abort(),
    )
    try:
        page.goto(address)
        yield watched
    finally:
        context.close()
