"""The command line. It imports what is quick; a command imports its work when it runs."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from lpprop._core.errors import InputError
from lpprop._version import __version__
from lpprop.cli.app import add_app
from lpprop.cli.common import reporting, say, say_warning
from lpprop.cli.compare import add_compare
from lpprop.cli.completion import add_completion
from lpprop.cli.demo import add_demo
from lpprop.cli.doctor import add_doctor
from lpprop.cli.evaluate import add_eval
from lpprop.cli.messages import one_line, visible
from lpprop.cli.methods import add_methods
from lpprop.cli.refine import add_refine
from lpprop.cli.segment import add_segment
from lpprop.cli.tune import add_tune

__all__ = ["build_parser", "main"]

# In the order of the help.
_COMMANDS = (
    add_demo, add_refine, add_segment, add_compare, add_eval, add_tune, add_app, add_methods,
    add_doctor, add_completion,
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: the arguments, those of the process if None.

    Returns:
        0, or 1 where something could not be done, or 130 after Ctrl-C.

    Raises:
        SystemExit: with 2 for wrong usage, and with 0 after `--help` and `--version`.
    """
    with reporting(), warnings.catch_warnings():
        arguments, unknown = build_parser().parse_known_args(argv)
        if unknown:
            _refuse_unknown(unknown, arguments.command)
        run: Callable[[argparse.Namespace], int] = arguments.run
        warnings.showwarning = lambda message, *_, **__: say_warning(
            one_line(message, arguments.command)
        )
        try:
            code = run(arguments)
            sys.stdout.flush()
            return code
        except BrokenPipeError:  # into head or less, which has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is written at the exit
            return 1
        except (InputError, OSError, ImportError) as error:  # ImportError: an extra is missing
            say(f"error: {one_line(error, arguments.command)}")
            return 1
        except KeyboardInterrupt:
            say("interrupted")
            return 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors show what was typed without obeying it."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser: argparse.ArgumentParser = _Parser(
        prog="lpprop", description="Refine open-vocabulary segmentation."
    )
    parser.add_argument("--version", action="version", version=f"lpprop {__version__}")
    parser.set_defaults(parser=parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in _COMMANDS:
        add(commands)
    return parser


def _refuse_unknown(unknown: Sequence[str], command: argparse.ArgumentParser) -> NoReturn:
    """Refuse arguments that a command does not have, and name what was meant."""
    known = command._option_string_actions
    hints = []
    for name in (word.partition("=")[0] for word in unknown if word.startswith("-")):
        if name in ("--backbone", "--affinity", "--model") and "--recipe" in known:
            hints.append("--recipe names the models")
        elif close := difflib.get_close_matches(name, known, n=1):
            hints.append(f"did you mean {close[0]}?")
    said = "; ".join([f"unrecognized arguments: {' '.join(unknown)}", *dict.fromkeys(hints)])
    command.error(said)
