"""What the commands share: their options, their messages, and checks of both."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lpprop.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["add_command", "checked_device", "make_folder", "option", "results", "say"]


def say(message: str) -> None:
    """Write a line to stderr, beside a progress bar if there is one."""
    from tqdm import tqdm

    # Not print, which would write into a progress bar.
    tqdm.write(f"lpprop: {' '.join(message.split())}", file=sys.stderr)


def add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    short: str,
    description: str,
    example: str,
) -> argparse.ArgumentParser:
    """Add a command that runs a function, with the options that all have."""
    command = commands.add_parser(
        name,
        help=short,
        description=description,
        epilog=example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    command.add_argument(
        "--device", default="cpu", help='where to compute, such as "cuda" (default: cpu)'
    )
    return command


def option(text: str) -> tuple[str, bool | int | float | str]:
    """Read NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, such as k=200, got {text!r}")
    if value in ("True", "False"):
        return name, value == "True"
    for number in (int, float):
        try:
            return name, number(value)
        except ValueError:
            continue
    return name, value


def results(image: Path, folder: Path) -> tuple[Path, Path, Path]:
    """Name the files of an image's labels, overlay and scores."""
    stem = image.stem
    return (
        folder / f"{stem}_labels.png",
        folder / f"{stem}_overlay.png",
        folder / f"{stem}_scores.npy",
    )


def checked_device(name: str) -> torch.device:
    """Return a device that is there, or refuse it."""
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).strip().splitlines()[0]
        raise InputError.of(
            "--device",
            got=f"{name} ({reason})",
            expected="a device of this machine",
            fix="Use cpu.",
        ) from error
    return device


def make_folder(path: Path) -> None:
    """Make a folder that can be written to, or say why not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        problem = "" if os.access(path, os.W_OK) else "it cannot be written to"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise InputError.of(
            "--out", got=f"{path} ({problem})", expected="a folder to write to", fix="Change --out."
        )
