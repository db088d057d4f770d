"""What the commands share: their options, their messages, and checks of both."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lpprop._core.errors import InputError

if TYPE_CHECKING:
    import torch

    from lpprop.models.recipes import Recipe

__all__ = [
    "add_command",
    "check_folder",
    "checked_device",
    "find_todo",
    "load_inputs",
    "make_folder",
    "named_recipe",
    "option",
    "results",
    "say",
    "work_off",
]


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


def option(text: str) -> tuple[str, object]:
    """Read NAME=VALUE; numbers, True, False, None and lists such as 8,16 are taken for those."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, such as k=200, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        with contextlib.suppress(ValueError):
            return name, float(value)  # inf and nan, which are refused as numbers
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


def check_folder(path: Path) -> None:
    """Refuse a folder that cannot be made or written to, and make none."""
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InputError.of(
            "--out",
            got=f"{path} ({there} is no folder that can be written to)",
            expected="a folder to write to",
            fix="Change --out.",
        )


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


def named_recipe(backbone: str, side: int | None) -> Recipe:
    """Return the recipe that --backbone names, for images of another --side if one is given."""
    from lpprop.models.recipes import RECIPES

    if backbone not in RECIPES:
        raise InputError.of(
            "--backbone",
            got=repr(backbone),
            expected=f"one of {', '.join(RECIPES)}",
            fix="Change --backbone.",
        )
    recipe = RECIPES[backbone]
    return recipe if side is None else dataclasses.replace(recipe, shorter_side=side)


def load_inputs(
    logits: Path, feats: Path | None, attention: Path | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
    """Load the arrays of one image."""
    from lpprop.io.arrays import load_array

    paths = {"logits": logits, "feats": feats, "attention": attention}
    scores, features, maps = (
        None if path is None else load_array(path, name).to(device) for name, path in paths.items()
    )
    assert scores is not None
    maps = maps[None] if maps is not None and maps.ndim == 3 else maps  # the heads of one image
    return scores, features, maps


def find_todo(arguments: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """List all images, and those whose results do not exist yet or are to be redone."""
    from lpprop.io.images import find_images

    images = find_images(arguments.image, "IMAGE")
    if arguments.image.resolve() == arguments.out.resolve():
        raise InputError.of(
            "--out",
            got=f"{arguments.out}, where the images are",
            expected="another folder",
            fix="The next run would take the results for images: change --out.",
        )
    todo = [
        image
        for image in images
        if arguments.overwrite
        or not all(result.is_file() for result in results(image, arguments.out))
    ]
    return images, todo


def work_off(
    todo: Sequence[Path], work: Callable[[int], None], done: str, folder: Path, skipped: int
) -> int:
    """Do the work of each image, by its number; go on after a failure; report, return the code."""
    from tqdm import tqdm

    failed = 0
    # On a terminal only (None), and only where there is something to wait for.
    hidden = True if len(todo) < 2 else None
    for number, image in enumerate(tqdm(todo, unit="image", file=sys.stderr, disable=hidden)):
        try:
            work(number)
        except (InputError, OSError, MemoryError, RuntimeError) as error:  # torch: out of memory
            failed += 1
            say(f"error: {image}: {str(error) or type(error).__name__}")
    parts = [f"{len(todo) - failed} {done} into {folder}"]
    if skipped:
        parts.append(f"{skipped} skipped, since results exist (--overwrite redoes them)")
    if failed:
        parts.append(f"{failed} failed")
    print(", ".join(parts))
    return 1 if failed else 0
