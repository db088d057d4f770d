"""What the commands do alike: find and load files, check, report."""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lpprop._core.errors import InputError, collect_warnings
from lpprop._core.progress import track
from lpprop.cli.arguments import option_name
from lpprop.cli.messages import PlainStream, one_line, translate, visible

if TYPE_CHECKING:
    import torch

    from lpprop.cli.results import Results
    from lpprop.models.recipes import Recipe

__all__ = [
    "check_folder",
    "check_room",
    "describe_method",
    "find_array_files",
    "find_device",
    "find_inputs",
    "find_recipe",
    "load_inputs",
    "make_folder",
    "process_images",
    "refuse_one_class",
    "reporting",
    "say",
    "say_warning",
]


def say(message: str) -> None:
    """Write a line to stderr, beside a progress bar if there is one."""
    from tqdm import tqdm

    if sys.stderr is None:  # a process may have none
        return
    # Not print, which would write into a progress bar.
    tqdm.write(visible(f"lpprop: {message}"), file=sys.stderr)


# The warnings of a command, each with the images after the first that it is true of; None for one
# of the command as a whole.
_warned: ContextVar[dict[str, list[Path] | None] | None] = ContextVar(
    "lpprop_cli_warned", default=None
)


@contextmanager
def reporting() -> Iterator[None]:
    """Keep stdout plain within a block, and remember of what `say_warning` has warned."""
    token = _warned.set({})
    try:
        # A process may have no stdout; then nobody reads.
        with redirect_stdout(PlainStream(sys.stdout) if sys.stdout else io.StringIO()):
            yield
        for message, images in (_warned.get() or {}).items():
            if images:
                more = f" and {len(images) - 3} more" if len(images) > 3 else ""
                named = ", ".join(image.name for image in images[:3])
                start = textwrap.shorten(message, 80, placeholder=" ...")
                say(f"warning: {named}{more}: as above, {start}")
    finally:
        _warned.reset(token)


def say_warning(message: str, image: Path | None = None) -> None:
    """Say a warning once, with the image where it first came; `reporting` names the others."""
    # A message about a file begins with its name.
    message = message.removeprefix(f"{image}: ")
    warned = _warned.get()
    if warned is not None:
        if message in warned:
            others = warned[message]
            if image is not None and others is not None:
                others.append(image)
            return
        warned[message] = None if image is None else []
    say(f"warning: {'' if image is None else f'{image}: '}{message}")


def find_device(name: str) -> torch.device:
    """Return a device that is there, or refuse it."""
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = textwrap.shorten(str(error).strip().splitlines()[0], 80, placeholder=" ...")
        raise InputError.of(
            "--device",
            got=f"{name} ({reason})",
            expected="a device of this machine",
            fix="Use cuda, as NVIDIA's GPUs are called." if name.startswith("gpu") else "Use cpu.",
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
    """Make a folder that can be written to, or say why not; clear what a killed run left there."""
    from lpprop.io.atomic import remove_abandoned

    check_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path)


def refuse_one_class(argument: str, names: Sequence[str]) -> None:
    """Refuse a single class, or several that commas make one."""
    if len(names) < 2:
        apart = " ".join(f'"{name.strip()}"' for name in names[0].split(",") if name.strip())
        raise InputError.of(
            argument,
            got=f"only {names[0]!r}",
            expected="two or more",
            fix=f"Write {apart}: blanks set classes apart, commas do not."
            if "," in names[0]
            else "Every pixel gets one of them, so a single one would get all.",
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


def find_array_files(paths: Mapping[str, Path], images: Sequence[Path]) -> dict[str, list[Path]]:
    """Find the file of each input for each image."""
    from lpprop.io.arrays import find_arrays
    from lpprop.io.inputs import reader_of

    return {
        name: find_arrays(path, images, option_name(name), reader_of(name).suffixes)
        for name, path in paths.items()
    }


def load_inputs(paths: Mapping[str, Path], device: torch.device) -> dict[str, Any]:
    """Load the arrays of one image, by name."""
    from lpprop._core.precision import move_to
    from lpprop.io.inputs import reader_of

    arrays = {n: move_to(device, reader_of(n).load(path, n)) for n, path in paths.items()}
    if "attention" in arrays and arrays["attention"].ndim == 3:  # the heads of one image
        arrays["attention"] = arrays["attention"][None]
    return arrays


def find_inputs(arguments: argparse.Namespace) -> list[Path]:
    """List the images; refuse to write results among them."""
    from lpprop.io.images import find_images

    images = find_images(arguments.image, "IMAGE")
    if arguments.image.resolve() == arguments.out.resolve():
        raise InputError.of(
            "--out",
            got=f"{arguments.out}, where the images are",
            expected="another folder",
            fix="The next run would take the results for images: change --out.",
        )
    return images


def check_room(argument: str, classes: int, size: tuple[int, int], device: torch.device) -> None:
    """Refuse results that cannot fit into memory, before anything is computed.

    Args:
        argument: what gives the size, for the error.
        classes: their number.
        size: (H, W) of the results.
        device: where they are computed.

    Raises:
        InputError: the scores in float32 and the labels in int64 alone take more than is free.
    """
    from lpprop._core.memory import available_bytes

    needed, available = size[0] * size[1] * (4 * classes + 8), available_bytes(device)
    if available is not None and needed > available:
        raise InputError.of(
            argument,
            got=f"{size[0]} x {size[1]} pixels of {classes} classes, which take "
            f"{needed / 2**30:.3g} GiB",
            expected=f"at most the {available / 2**30:.3g} GiB that are free on {device}",
            fix="Use a smaller image or size, or merge classes.",
        )


def describe_method(method: str, options: Mapping[str, object]) -> dict[str, object]:
    """Return a preset's name and all of its options, as the record of results holds them."""
    from lpprop.compose.presets import find

    preset = find(method)
    values = preset.options | dict(options)
    if preset.feats_from:
        made_by = cast(str, values["feats_from"])
        values |= {**preset.feats_from[made_by], **options}
    return {"method": preset.name, "options": values}


def process_images(
    arguments: argparse.Namespace,
    every: Sequence[Results],
    todo: Sequence[Results],
    work: Callable[[Results], None],
    done: str,
) -> int:
    """Do the work of each image; go on after a failure; report, return the exit code."""
    failed = 0
    for results in track(todo):
        with collect_warnings(shown=False) as warned:
            try:
                work(results)
            except (InputError, OSError, MemoryError, RuntimeError) as error:  # torch: no memory
                failed += 1
                say(f"error: {results.image}: {one_line(error, arguments.command)}")
        for message in warned:
            say_warning(translate(message, arguments.command), results.image)
    parts = [f"{len(todo) - failed} {done} into {visible(str(arguments.out))}"]
    if len(every) > len(todo):
        skipped = len(every) - len(todo)
        parts.append(f"{skipped} skipped, since their results exist (--overwrite redoes them)")
    if failed:
        parts.append(f"{failed} failed")
    print(", ".join(parts))
    return 1 if failed else 0
