"""The arguments that several commands share; inputs and methods come from their tables."""

from __future__ import annotations

import argparse
import ast
import contextlib
import re
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from lpprop._core.errors import InputError
from lpprop.cli.listing import input_files, methods, proposers, proposers_summary

__all__ = [
    "add_arrays",
    "add_command",
    "add_shared",
    "array_paths",
    "check_saliency",
    "list_methods",
    "name_methods",
    "option_name",
    "parse_method",
    "parse_option",
    "parse_regions",
    "regions_name",
]


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    short: str,
    description: str,
    example: str,
    computes: bool = True,
) -> argparse.ArgumentParser:
    """Add a command that runs a function, with --device if it computes."""
    command = commands.add_parser(
        name,
        help=short,
        description=description,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run, command=command)
    if computes:
        add_shared(command, "--device")
    return command


def add_arrays(
    command: argparse.ArgumentParser,
    *,
    folders: bool = False,
    required: bool = True,
    leave: Collection[str] = (),
) -> None:
    """Add a file for the scores, and one for each input that has arrays in files.

    Args:
        command: the command.
        folders: whether each is a folder with a file per image, and the scores may be left out.
        required: whether the parser itself asks for the scores, where they may not be left out.
        leave: inputs that the command does not take.
    """
    what = {"logits": ("scores of the classes, larger = likelier", "(C, h, w)")}
    what |= {row.name: (row.what, row.file) for row in input_files()}
    what = {name: row for name, row in what.items() if name not in leave}
    for name, (text, shape) in what.items():
        by_name = name == "regions"
        command.add_argument(
            option_name(name),
            type=parse_regions if by_name else Path,
            required=name == "logits" and required and not folders,
            metavar=("DIR" if folders else "FILE") + ("|NAME" if by_name else ""),
            help=f"{text}: {'per image ' if folders else ''}an array {shape}"
            + (f", PNG or JSON of SAM's tools, or {proposers_summary()}" if by_name else ""),
        )


def array_paths(arguments: argparse.Namespace) -> dict[str, Path]:
    """Return the files that `add_arrays` was given, by the names of the inputs."""
    names = ("logits", *(row.name for row in input_files()))
    paths = {name: getattr(arguments, name, None) for name in names}
    return {name: path for name, path in paths.items() if isinstance(path, Path)}


def check_saliency(arguments: argparse.Namespace) -> None:
    """Check the background, and refuse saliency without one."""
    if arguments.background is not None:
        from lpprop.inputs.background import check_background

        check_background("--background", arguments.background)
    elif arguments.saliency is not None:
        raise InputError.of(
            "--saliency",
            got=f"{arguments.saliency} without --background",
            expected="the threshold below which it decides",
            fix="Pass --background 0.4, or leave it out.",
        )


def parse_regions(text: str) -> Path | str:
    """Read --regions: the name of a proposer, or else a path; ./slic is a path.

    >>> parse_regions("slic"), parse_regions("masks").name
    ('slic', 'masks')
    """
    return text if text in proposers() else Path(text)


def regions_name(arguments: argparse.Namespace) -> str | None:
    """Return the name of the proposer that --regions gives, None where it gives none.

    Raises:
        InputError: neither a name nor a path that exists.
    """
    given = arguments.regions
    if isinstance(given, Path) and not given.exists():
        from lpprop._core.options import hint

        raise InputError.of(
            "--regions",
            got=f"{given}, which does not exist",
            expected=f"a path to regions, or {proposers_summary()}",
            fix=hint(str(given), proposers(), "Check the path."),
        )
    return given if isinstance(given, str) else None


def option_name(name: str) -> str:
    """Return the option that hands on an input: --pixel-feats."""
    return f"--{name.replace('_', '-')}"


def name_methods() -> str:
    """Name the methods in one line; lpprop refine --help says what they do."""
    return ", ".join(row.name for row in methods())


def list_methods() -> str:
    """List the methods with what they do and need, one per line."""
    lines = []
    for row in methods():
        needs = ", ".join(row.needs).replace("attention", "attention or feats")
        extra = f"; pip install 'lpprop[{row.extra}]'" if row.extra else ""
        lines.append(f"  {row.name:<16} {row.note} (needs {needs or 'nothing'}{extra})")
    return "\n".join(lines)


def parse_option(text: str) -> tuple[str, object]:
    """Read NAME=VALUE; numbers, True, False, None and lists such as 8,16 are taken for those."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, such as k=200, got {text!r}")
    with warnings.catch_warnings(), contextlib.suppress(*_NO_LITERAL):
        warnings.simplefilter("ignore")  # the compiler's, of digits before letters
        return name, ast.literal_eval(value)
    with contextlib.suppress(ValueError):
        return name, float(value)  # inf and nan, which are refused as numbers
    return name, value


# What Python raises of a text that is no literal, or is nested too deeply for its parser.
_NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)


class _AppendOnce(argparse.Action):
    """Collect options, and refuse one that comes twice: only one of the two could hold."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        earlier = getattr(namespace, self.dest)
        if values[0] in dict(earlier):
            raise argparse.ArgumentError(self, f"{values[0]} is given twice")
        setattr(namespace, self.dest, [*earlier, values])


def parse_method(text: str) -> tuple[str, dict[str, object]]:
    """Read METHOD or METHOD:NAME=VALUE,NAME=VALUE; values are read as those of --option.

    >>> parse_method("lposs"), parse_method("pamr:iterations=5,dilations=8,16")
    (('lposs', {}), ('pamr', {'iterations': 5, 'dilations': (8, 16)}))
    """
    name, colon, listed = text.partition(":")
    # A comma also parts the items of a list: it ends a value where a name and = follow.
    pairs = re.split(r",(?=[^\W\d]\w*=)", listed) if colon else []
    options: dict[str, object] = {}
    for pair in pairs:
        option, value = parse_option(pair)
        if option in options:
            raise argparse.ArgumentTypeError(f"{option} is given twice in {text!r}")
        options[option] = value
    return name, options


#: What several commands take.
_SHARED: dict[str, dict[str, Any]] = {
    "--background": {
        "type": float, "metavar": "T",
        "help": "from 0 to 1: a pixel of which no class has such a share is none of these",
    },
    "image": {"type": Path, "metavar": "IMAGE", "help": "an image, or a folder of them"},
    "--device": {"default": "cpu", "help": 'where to compute, such as "cuda" (default: cpu)'},
    "--no-download": {
        "action": "store_true", "help": "take weights that are on disk already, or fail"
    },
    "--option": {
        "type": parse_option, "action": _AppendOnce, "default": [], "metavar": "NAME=VALUE",
        "help": "an option of the method, such as k=200, feats_from=dinov2 or complement=True; may "
        "be repeated",
    },
    "--out": {"type": Path, "metavar": "DIR", "help": "made if missing"},
    "--overwrite": {
        "action": "store_true",
        "help": "make all results again, those of other settings or inputs too",
    },
    "--side": {
        "type": int, "metavar": "PIXELS", "help": "shorter side of the image that the models see"
    },
    "--size": {
        "type": int, "nargs": 2, "metavar": ("H", "W"),
        "help": "size of the results, where IMAGE is what the backbone saw (default: IMAGE's)",
    },
    "--span": {
        "type": int, "nargs": 2, "metavar": ("H", "W"),
        "help": "pixels that the grids cover from IMAGE's top left corner, where the model saw it "
        "padded or cropped at the bottom and right (default: IMAGE's)",
    },
}  # fmt: skip


def add_shared(command: argparse.ArgumentParser, name: str, note: str = "", **changes: Any) -> None:
    """Add an argument that several commands take; changes are this one's, a note ends its help."""
    own = _SHARED[name] | changes
    command.add_argument(name, **own | {"help": own["help"] + note})
