"""`lpprop refine`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lpprop._core.errors import InputError
from lpprop.cli.arguments import (
    add_arrays,
    add_command,
    add_shared,
    array_paths,
    list_methods,
    option_name,
)
from lpprop.cli.common import (
    find_device,
    find_pending,
    load_inputs,
    make_folder,
    name_results,
    process_images,
)

if TYPE_CHECKING:
    import torch

    from lpprop.compose.chain import Chain

__all__ = ["add_refine"]

_HELP = """\
Refine coarse segmentation scores of any model to the image's resolution.

Arrays may be .npy, .npz, .safetensors, .pt or .pth; of several in a file, the one named like the
option is taken ("logits", "feats", ...). Each may be a folder, and so may IMAGE: files of one stem
belong together.

methods:
{methods}

For each image DIR receives <stem>_labels.png (class indices with a palette), <stem>_overlay.png
and <stem>_scores.npy (float32, C x H x W)."""

_EXAMPLE = """\
example:
  lpprop refine street.jpg --logits street_logits.npy --feats street_feats.npy --out refined
  lpprop refine images/ --logits logits/ --feats feats/ --out refined --option feats_from=dinov2
  lpprop refine images/ --logits logits/ --attention sd2/ --out refined --method max_velocity"""


def add_refine(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    short = "refine scores of any model, from files"
    command = add_command(
        commands, "refine", _refine,
        short=short, description=_HELP.format(methods=list_methods()), example=_EXAMPLE,
    )  # fmt: skip
    add_shared(command, "image")
    add_arrays(command)
    add_shared(command, "--out", required=True)
    command.add_argument("--method", default="lposs+", help="see above (default: lposs+)")
    for name in ("--option", "--size", "--overwrite"):
        add_shared(command, name)


def _refine(arguments: argparse.Namespace) -> int:
    from lpprop.io.arrays import find_arrays

    chain = _build_chain(arguments)
    device = find_device(arguments.device)
    todo, skipped = find_pending(arguments)
    arrays = {
        name: find_arrays(path, todo, option_name(name))
        for name, path in array_paths(arguments).items()
    }
    make_folder(arguments.out)

    def work(number: int) -> None:
        files = {name: paths[number] for name, paths in arrays.items()}
        _refine_image(todo[number], files, chain, device, arguments.size, arguments.out)

    return process_images(todo, work, "refined", arguments.out, skipped)


def _build_chain(arguments: argparse.Namespace) -> Chain:
    """Build the method and check what it is given, so that none fails after the first image."""
    from lpprop.compose.composite import missing_input
    from lpprop.compose.pipeline import as_chain

    chain = as_chain(arguments.method, **dict(arguments.option))
    given = array_paths(arguments)
    for name, path in given.items():
        if name not in chain.takes and name not in ("logits", "feats"):
            raise InputError.of(
                option_name(name),
                got=str(path),
                expected=f"nothing, since the method {arguments.method} does not take it",
                fix="Leave it out, or name a method that takes it.",
            )
    missing = missing_input(chain, [*given, "image"])
    if missing:
        raise InputError.of(
            option_name(missing.partition(" ")[0]),
            got="nothing",
            expected="a file or a folder",
            fix=f"The method {arguments.method} needs it"
            + (", or --feats to build it from." if "attention" in missing else "."),
        )
    return chain


def _refine_image(
    path: Path,
    arrays: dict[str, Path],
    chain: Chain,
    device: torch.device,
    size: tuple[int, int] | None,
    folder: Path,
) -> None:
    import torch

    from lpprop.compose.pipeline import refine
    from lpprop.io.arrays import save_scores
    from lpprop.io.images import load_image, save_image
    from lpprop.io.label_maps import save_labels
    from lpprop.viz.drawing import overlay

    image = load_image(path, "IMAGE")
    inputs = load_inputs(arrays, device)
    with torch.inference_mode():
        scores = refine(inputs.pop("logits"), image=image, method=chain, size=size, **inputs)[0]
        labels = scores.argmax(0)
    labels_file, overlay_file, scores_file = name_results(path, folder)
    save_labels(labels_file, labels, classes=len(scores))
    image = image.resize((labels.shape[1], labels.shape[0]))
    save_image(overlay_file, overlay(image, labels, len(scores)))
    save_scores(scores_file, scores)
