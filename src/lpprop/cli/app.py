"""`lpprop app`."""

from __future__ import annotations

import argparse

from lpprop.cli.arguments import add_command

__all__ = ["add_app"]

_HELP = """\
Serve a page in which one segments images in the browser: by clicks, or by classes in words, with
several methods side by side.

It needs the extra app (pip install '.[app]' in a clone). Nothing is downloaded: the page offers the
recipes and the features whose weights are on disk. It is reached from this machine alone, unless
--host says otherwise, and sends nothing to any other."""

_EXAMPLE = """\
example:
  lpprop app
  lpprop app --port 8000 --affinity dinov2-vits14
  lpprop app --host 0.0.0.0 --max-pixels 10000000"""

# What one who serves others may want to change; lpprop.app.limits has the others.
_LIMITS = {
    "side": "longer side, in pixels, of the image that is worked on (default: 1024)",
    "pixels": "pixels of an image that is uploaded (default: 50000000)",
    "seconds": "seconds that one answer may take (default: 30)",
    "jobs": "answers that are worked on at the same time (default: 1)",
}


def add_app(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "app", _app,
        short="segment in the browser, by clicks or by words", description=_HELP, example=_EXAMPLE,
    )  # fmt: skip
    command.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on; 0.0.0.0 is every address of this machine (default: "
        "127.0.0.1, which nobody else reaches)",
    )
    command.add_argument("--port", type=int, default=7860, help="the port (default: 7860)")
    command.add_argument(
        "--recipe", metavar="NAME", help="the recipe for words that is chosen at first"
    )
    command.add_argument(
        "--affinity",
        metavar="NAME",
        help="a vision transformer whose features carry clicks on: one in the cache of the Hugging "
        "Face hub, or a folder (default: what is in the cache, else the offline network)",
    )
    for name, what in _LIMITS.items():
        command.add_argument(f"--max-{name}", type=int, metavar="N", help=what)


def _app(arguments: argparse.Namespace) -> int:
    from lpprop._core.options import check_integer
    from lpprop.app import run_app
    from lpprop.cli.common import find_device, say

    most = {name: getattr(arguments, f"max_{name}") for name in _LIMITS}
    for name, value in most.items():
        if value is not None:
            check_integer(f"--max-{name}", value, low=1)
    run_app(
        arguments.host,
        arguments.port,
        recipe=arguments.recipe,
        affinity=arguments.affinity,
        device=find_device(arguments.device),
        say=say,
        **{name: value for name, value in most.items() if value is not None},
    )
    return 0
