"""`lpprop completion`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lpprop._core.optional import import_hint
from lpprop.cli.arguments import add_command, parse_regions
from lpprop.cli.listing import datasets, methods, palettes, recipes

__all__ = ["add_completion"]

_HELP = """\
Write the script by which a shell completes lpprop's commands, options, methods, recipes, data sets
and files with the tabulator key."""

_EXAMPLE = """\
example:
  lpprop completion bash > ~/.local/share/bash-completion/completions/lpprop
  lpprop completion zsh > ~/.zfunc/_lpprop     # in ~/.zshrc: fpath+=~/.zfunc; compinit
  lpprop completion tcsh > ~/.lpprop.tcsh      # in ~/.tcshrc: source ~/.lpprop.tcsh"""

_SHELLS = ("bash", "zsh", "tcsh")


def add_completion(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "completion", _completion,
        short="write a shell's completion script", description=_HELP, example=_EXAMPLE,
        computes=False,
    )  # fmt: skip
    command.add_argument("shell", choices=_SHELLS, help=f"one of {', '.join(_SHELLS)}")


def _completion(arguments: argparse.Namespace) -> int:
    with import_hint("completion needs a package: pip install shtab"):
        import shtab

    parser: argparse.ArgumentParser = arguments.parser  # which parses nothing any more
    (commands,) = (x for x in parser._actions if isinstance(x, argparse._SubParsersAction))
    for named in commands._choices_actions:
        command = commands.choices[named.dest]
        command.description = named.help  # shells have room for a line
        for action in command._actions:
            _tell_values(action, shtab)
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _tell_values(action: argparse.Action, shtab: Any) -> None:
    """Say which values an argument has, and name it in one word."""
    if isinstance(action.metavar, tuple):
        action.metavar = " ".join(action.metavar)
    listed = _LISTED.get(action.dest)
    if listed is not None:
        action.choices = listed()
    elif action.type in (Path, parse_regions) and action.choices is None:
        folder = str(action.metavar).startswith("DIR")
        action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]


def _method_names() -> list[str]:
    return [row.name for row in methods()]


# What arguments may be that are not checked against a list while they are read.
_LISTED: Mapping[str, Callable[[], Sequence[str]]] = {
    "dataset": datasets,
    "device": lambda: ["cpu", "cuda"],
    "method": _method_names,
    "methods": _method_names,
    "name": _method_names,
    "palette": palettes,
    "recipe": recipes,
}
