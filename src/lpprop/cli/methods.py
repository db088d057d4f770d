"""`lpprop methods`."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
import textwrap
from collections.abc import Iterator

from lpprop._core.errors import InputError
from lpprop.cli.arguments import add_command, name_methods, option_name
from lpprop.cli.listing import Method, Option, input_files, methods, options

__all__ = ["add_methods"]

_HELP = """\
List the methods that --method and lpprop.refine take, with what each does and needs, or tell all of
one: its paper, how it is called, and its options with their defaults and what they may be."""

_EXAMPLE = """\
example:
  lpprop methods
  lpprop methods lposs+
  lpprop methods --markdown"""


def add_methods(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "methods", _methods,
        short="list the methods, or the options of one", description=_HELP, example=_EXAMPLE,
        computes=False,
    )  # fmt: skip
    command.add_argument("name", nargs="?", metavar="METHOD", help="the one to tell all of")
    command.add_argument("--markdown", action="store_true", help="write the list in Markdown")


def _methods(arguments: argparse.Namespace) -> int:
    known = {row.name: row for row in methods()}
    if arguments.name is None:
        print(_in_markdown() if arguments.markdown else "\n".join(_list(list(known.values()))))
        return 0
    if arguments.markdown:
        arguments.command.error("argument --markdown: not allowed with argument METHOD")
    known |= {row.python_name: row for row in known.values()}
    if arguments.name not in known:
        close = difflib.get_close_matches(arguments.name.lower(), known, n=1, cutoff=0.3)
        raise InputError.of(
            "METHOD",
            got=repr(arguments.name),
            expected=f"one of {name_methods()}",
            fix=f"Did you mean {close[0]}?" if close else "lpprop methods lists them.",
        )
    print("\n".join(_tell(known[arguments.name])))
    return 0


def _in_markdown() -> str:
    from lpprop.compose.presets import markdown_table

    return markdown_table()


def _list(rows: list[Method]) -> Iterator[str]:
    """Yield the lines of an aligned table; a terminal that is too narrow gets broken lines."""
    needs = [_needs(row) for row in rows]
    first = max(len(row.name) for row in rows) + 2
    second = max(map(len, needs)) + 2
    yield f"{'method':<{first}}{'needs':<{second}}what it does"
    for row, needed in zip(rows, needs, strict=True):
        extra = f" (extra {row.extra})" if row.extra else ""
        start = f"{row.name:<{first}}{needed:<{second}}"
        yield _wrap(f"{row.note}{extra}", start, " " * (first + second))


def _needs(row: Method) -> str:
    return ", ".join(row.needs).replace("attention", "attention or feats") or "nothing"


def _tell(row: Method) -> Iterator[str]:
    """Yield the lines about one method."""
    yield f"{row.name}: {row.note}"
    yield ""
    given = [name for name in row.needs if name != "image"]
    inputs = ", ".join(["logits", *(f"{name}={name}" for name in given), "image=image"])
    files = {one.name for one in input_files()}
    paths = "".join(f" {option_name(name)} FILE" for name in given if name in files)
    yield _wrap(row.paper, "paper    ", " " * 9)
    yield f"needs    {_needs(row)}"
    if row.extra:
        yield f"install  pip install 'lpprop[{row.extra}]'"
    yield f'Python   lpprop.refine({inputs}, method="{row.name}")'
    yield f"         lpprop.presets.{row.python_name}()"
    yield f"shell    lpprop refine IMAGE --logits FILE{paths} --method {row.name} --out DIR"
    for paragraph in filter(None, row.details.split("\n\n")):
        yield ""
        yield _wrap(" ".join(paragraph.split()))
    yield ""
    listed = options(row.name)
    yield "options, as --option NAME=VALUE or keywords:" if listed else "It has no options."
    for option in listed:
        yield f"  {option.name} = {option.default}"
        for text in _about(option):
            yield _wrap(text, " " * 6, " " * 6)


def _about(option: Option) -> Iterator[str]:
    if option.what:
        yield option.what
    yield option.allowed + (f"; lpprop tune tries {option.tuned}" if option.tuned else "")


def _wrap(text: str, start: str = "", indent: str = "") -> str:
    """Break a text at the width of the terminal; a file or another program gets whole lines."""
    if not sys.stdout.isatty():
        return f"{start}{text}"
    width = max(60, shutil.get_terminal_size().columns)
    return textwrap.fill(text, width, initial_indent=start, subsequent_indent=indent)
