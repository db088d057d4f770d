"""The command line: `lpprop demo`, `refine`, `segment`, `compare` and `eval`."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence

from lpprop._core.errors import InputError
from lpprop._version import __version__
from lpprop.cli.common import say
from lpprop.cli.compare import add_compare
from lpprop.cli.demo import add_demo
from lpprop.cli.evaluate import add_eval
from lpprop.cli.refine import add_refine
from lpprop.cli.segment import add_segment

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments, those of the process if None.

    Returns:
        0, or 1 where something could not be done, or 130 after Ctrl-C.

    Raises:
        SystemExit: with 2 for wrong usage, and with 0 after `--help` and `--version`.
    """
    arguments = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        try:
            return run(arguments)
        except (InputError, OSError, ImportError) as error:  # ImportError: an extra is missing
            say(f"error: {error}")
            return 1
        except KeyboardInterrupt:
            say("interrupted")
            return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpprop", description="Refine open-vocabulary segmentation."
    )
    parser.add_argument("--version", action="version", version=f"lpprop {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_demo, add_refine, add_segment, add_compare, add_eval):
        add(commands)
    return parser
