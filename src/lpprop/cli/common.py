"""What the commands do alike: find and load files, check, report."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpprop._core.errors import InputError

if TYPE_CHECKING:
    import torch

    from lpprop.models.recipes import Recipe

__all__ = [
    "check_folder",
    "find_device",
    "find_pending",
    "find_recipe",
    "load_inputs",
    "make_folder",
    "name_results",
    "process_images",
    "refuse_one_class",
    "say",
]


def say(message: str) -> None:
    """Write a line to stderr, beside a progress bar if there is one."""
    from tqdm import tqdm

    # Not print, which would write into a progress bar.
    tqdm.write(f"lpprop: {' '.join(message.split())}", file=sys.stderr)


def name_results(image: Path, folder: Path) -> list[Path]:
    """Name the files of an image's labels, overlay and scores."""
    return [folder / f"{image.stem}_{x}" for x in ("labels.png", "overlay.png", "scores.npy")]


def find_device(name: str) -> torch.device:
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
    check_folder(path)
    path.mkdir(parents=True, exist_ok=True)


def refuse_one_class(argument: str, names: Sequence[str]) -> None:
    """Refuse a single class."""
    if len(names) < 2:
        raise InputError.of(
            argument,
            got=f"only {names[0]!r}",
            expected="two or more",
            fix="Every pixel gets one of them, so a single one would get all.",
        )


def find_recipe(name: str, side: int | None) -> Recipe:
    """Return the recipe that --recipe names, for images of another --side if one is given."""
    from lpprop.models.recipes import RECIPES

    if name not in RECIPES:
        raise InputError.of(
            "--recipe",
            got=repr(name),
            expected=f"one of {', '.join(RECIPES)}",
            fix="Change --recipe.",
        )
    recipe = RECIPES[name]
    if side is None:
        return recipe
    longer = max(side, recipe.longer_side)
    return dataclasses.replace(recipe, shorter_side=side, longer_side=longer)


def load_inputs(paths: Mapping[str, Path], device: torch.device) -> dict[str, Any]:
    """Load the arrays of one image, by name."""
    from lpprop.io.arrays import load_array

    arrays = {name: load_array(path, name).to(device) for name, path in paths.items()}
    if "attention" in arrays and arrays["attention"].ndim == 3:  # the heads of one image
        arrays["attention"] = arrays["attention"][None]
    return arrays


def find_pending(arguments: argparse.Namespace) -> tuple[list[Path], int]:
    """List the images without results, or all of them to --overwrite; count the others."""
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
        or not all(result.is_file() for result in name_results(image, arguments.out))
    ]
    return todo, len(images) - len(todo)


def process_images(
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
