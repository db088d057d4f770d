"""`lpprop refine`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lpprop._core.errors import InputError
from lpprop.cli.common import (
    add_command,
    checked_device,
    find_todo,
    load_inputs,
    make_folder,
    option,
    results,
    work_off,
)

if TYPE_CHECKING:
    import torch

    from lpprop.compose.chain import Chain

__all__ = ["add_refine"]

_HELP = """\
Refine coarse segmentation scores of any model to the image's resolution.

LOGITS is an array (C, h, w) of scores, larger = likelier; FEATS an array (D, h', w') of affinity
features, such as DINO's patch tokens; ATTENTION an array (N, N) or (heads, N, N), such as Stable
Diffusion's, for the methods that take it in place of FEATS. All may be .npy, .npz, .safetensors,
.pt or .pth; of several arrays in a file, those named "logits", "feats" and "attention" are taken.

Each may be a folder, and so may IMAGE: files of one stem belong together.

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
        short=short, description=_HELP, example=_EXAMPLE,
    )  # fmt: skip
    command.add_argument("image", type=Path, metavar="IMAGE", help="an image, or a folder of them")
    command.add_argument(
        "--logits", type=Path, required=True, metavar="FILE", help="an array, or a folder of them"
    )
    command.add_argument("--feats", type=Path, metavar="FILE", help="an array, or a folder of them")
    command.add_argument(
        "--attention", type=Path, metavar="FILE", help="an array, or a folder of them"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="made if missing")
    command.add_argument(
        "--method",
        default="lposs+",
        help="lposs+ (default), lposs, max_velocity, optimal_path, kl or fusion; and, to compare "
        "with, bilinear, joint_bilateral, guided_filter, pamr or dense_crf (which needs pip "
        "install 'lpprop[crf]')",
    )
    command.add_argument(
        "--option",
        type=option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the method, such as k=200, feats_from=dinov2 or complement=True; may be "
        "repeated",
    )
    command.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="size of the results, where IMAGE is what the backbone saw (default: IMAGE's)",
    )
    command.add_argument("--overwrite", action="store_true", help="redo images whose results exist")


class _Job(NamedTuple):
    """One image with its arrays."""

    image: Path
    logits: Path
    feats: Path | None
    attention: Path | None


def _refine(arguments: argparse.Namespace) -> int:
    chain = _checked_chain(arguments)
    device = checked_device(arguments.device)
    images, todo = find_todo(arguments)
    jobs = _jobs(arguments, todo)
    make_folder(arguments.out)

    def work(number: int) -> None:
        _refine_image(jobs[number], chain, device, arguments.size, arguments.out)

    return work_off(todo, work, "refined", arguments.out, skipped=len(images) - len(todo))


def _jobs(arguments: argparse.Namespace, todo: list[Path]) -> list[_Job]:
    """Find the arrays of the images that are to be refined."""
    from lpprop.io.arrays import find_arrays

    logits = find_arrays(arguments.logits, todo, "--logits")
    none: list[None] = [None] * len(todo)
    feats, attention = (
        find_arrays(path, todo, option) if path is not None else none
        for path, option in ((arguments.feats, "--feats"), (arguments.attention, "--attention"))
    )
    return [_Job(*paths) for paths in zip(todo, logits, feats, attention, strict=True)]


def _checked_chain(arguments: argparse.Namespace) -> Chain:
    """Build the method, which checks its options, so that none fails after the first image."""
    from lpprop.compose import presets

    chain = presets.by_name(arguments.method, **dict(arguments.option))
    wanted = [name for name in ("feats", "attention") if name in chain.needs]
    if arguments.attention is not None and "attention" not in chain.needs:
        raise InputError.of(
            "--attention",
            got=str(arguments.attention),
            expected=f"nothing, since the method {arguments.method} does not take it",
            fix="Name a method that does, such as --method max_velocity.",
        )
    # Attention is built from feats where there is none.
    given = arguments.feats is not None or (
        arguments.attention is not None and wanted == ["attention"]
    )
    if wanted and not given:
        raise InputError.of(
            f"--{wanted[0]}",
            got="nothing",
            expected="a file or a folder",
            fix=f"The method {arguments.method} needs it"
            + (", or --feats to build it from." if wanted == ["attention"] else "."),
        )
    return chain


def _refine_image(
    job: _Job, chain: Chain, device: torch.device, size: tuple[int, int] | None, folder: Path
) -> None:
    import torch

    from lpprop.compose.pipeline import refine
    from lpprop.io.arrays import save_scores
    from lpprop.io.images import load_image, save_image
    from lpprop.io.label_maps import save_labels
    from lpprop.viz.drawing import overlay

    image = load_image(job.image, "IMAGE")
    logits, feats, attention = load_inputs(job.logits, job.feats, job.attention, device)
    with torch.inference_mode():
        scores = refine(logits, feats, image, attention=attention, method=chain, size=size)[0]
        labels = scores.argmax(0)
    labels_file, overlay_file, scores_file = results(job.image, folder)
    save_labels(labels_file, labels, classes=len(scores))
    image = image.resize((labels.shape[1], labels.shape[0]))
    save_image(overlay_file, overlay(image, labels, len(scores)))
    save_scores(scores_file, scores)
