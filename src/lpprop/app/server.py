"""The page is served, guarded, until the process is told to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from lpprop._core.errors import InputError
from lpprop._core.optional import import_hint
from lpprop.app.answers import LOG, Answers
from lpprop.app.door import Door
from lpprop.app.files import SessionFiles, temporary_root
from lpprop.app.limits import Limits
from lpprop.app.look import look

if TYPE_CHECKING:
    import gradio

    from lpprop.app.blocks import Page

__all__ = ["serve"]

# Read by Gradio when it is imported, hence before.
_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_SHARE": "False",
}
_SWEEP_SECONDS = 30


def serve(
    build: Callable[[Answers], Page],
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    limits: Limits | None = None,
    say: Callable[[str], object] = print,
) -> None:
    """Serve a page until Ctrl-C or a signal to end.

    Uploads and results lie in a folder of their own, which goes with the process; those of
    a visit go with it.

    Args:
        build: makes the page with the guard of its events.
        host: the address to listen on. "0.0.0.0" is every address of the machine.
        port: the port.
        limits: what one user may ask.
        say: what is called with the line that names the address.

    Raises:
        InputError: a port that is taken or forbidden.
        ImportError: Gradio is absent.
    """
    limits = limits or Limits()
    os.environ.update(_SETTINGS)
    if not LOG.handlers:
        LOG.addHandler(logging.StreamHandler())
    with temporary_root() as root:
        os.environ["GRADIO_TEMP_DIR"] = str(root)
        with import_hint("The page needs the extra app: pip install 'lpprop[app]'"):
            import gradio  # noqa: F401
        files = SessionFiles(root, limits)
        page = build(Answers(limits, files))
        _launch(page, files, limits, host, port)
        files.keep_present()
        say(f"The page is at http://{host}:{port} - Ctrl-C ends it.")
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.wait(_SWEEP_SECONDS):
            files.sweep()
        page.server.force_exit = True  # else it waits for each browser to close its connection
        page.close(verbose=False)


def _launch(page: Page, files: SessionFiles, limits: Limits, host: str, port: int) -> None:
    from starlette.middleware import Middleware

    _forget_with_session(page, files)
    page.queue(max_size=limits.waiting, default_concurrency_limit=limits.jobs, api_open=False)
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            show_error=False,
            max_file_size=limits.file_bytes,
            allowed_paths=[],
            state_session_capacity=limits.sessions,
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            num_workers=1,
            app_kwargs={
                "middleware": [Middleware(Door, limits=limits, files=files)],
                "docs_url": None, "redoc_url": None, "openapi_url": None,
            },
            **look(),
        )  # fmt: skip
    except OSError as error:
        raise InputError.of(
            "port",
            got=f"{port}, which cannot be listened on at {host}",
            expected="one that is free",
            fix="Pass another --port.",
        ) from error


def _forget_with_session(page: Page, files: SessionFiles) -> None:
    import gradio

    def forget(request: gradio.Request) -> None:
        session = request.session_hash
        if session:
            files.forget(session)
            page.state_holder.session_data.pop(session, None)

    forget.__annotations__ = {"request": gradio.Request}
    with page:
        page.unload(forget)
