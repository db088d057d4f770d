"""`lpprop compare`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from lpprop._core.errors import InputError, collect_warnings
from lpprop.cli.arguments import (
    add_arrays,
    add_command,
    add_shared,
    array_paths,
    check_saliency,
    name_methods,
    parse_method,
    regions_name,
)
from lpprop.cli.common import (
    find_array_files,
    find_device,
    load_inputs,
    make_folder,
    refuse_one_class,
)
from lpprop.cli.messages import translate, visible

if TYPE_CHECKING:
    from lpprop.comparison import Comparison
    from lpprop.compose.chain import Chain

__all__ = ["add_compare"]

_HELP = """\
Refine the scores of one image by several methods, and set them side by side.

Arrays and methods are those of lpprop refine; of a folder, the file that is named after IMAGE is
taken. GT is a PNG of class indices,
grey or with a palette: with it, the methods are also measured by mIoU and Boundary IoU, and their
errors drawn. The image counts as its stored pixels, to which arrays and GT belong: an EXIF
orientation is not applied, and a warning names it.

The table goes to the screen, and with the figure to DIR: <stem>_compare.png, <stem>_compare.md and
<stem>_compare.csv. They replace those of an earlier run."""

_EXAMPLE = """\
example:
  lpprop compare street.jpg --logits street_logits.npy --feats street_feats.npy --out compared
  lpprop compare street.jpg --logits street_logits.npy --feats street_feats.npy --out compared \\
    --methods bilinear lposs lposs+ pamr --gt street_labels.png --palette cityscapes
  lpprop compare street.jpg --logits street_logits.npy --feats street_feats.npy --out compared \\
    --methods lposs:k=50,gamma=7 lposs:k=400 lposs+ --option sigma=0.02"""


def add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "compare", _compare,
        short="set several methods side by side", description=_HELP, example=_EXAMPLE,
    )  # fmt: skip
    command.add_argument("image", type=Path, metavar="IMAGE", help="an image")
    add_arrays(command)
    command.add_argument("--gt", type=Path, metavar="PNG", help="the true classes")
    command.add_argument(
        "--ignore-index",
        type=int,
        default=255,
        metavar="N",
        help="what marks pixels of GT that do not count (default: 255)",
    )
    add_shared(command, "--out", required=True)
    command.add_argument(
        "--methods",
        nargs="+",
        type=parse_method,
        metavar="METHOD",
        help=f"of {name_methods()} (default: those that the inputs allow); with options of its own "
        "after a colon, such as lposs:k=50,gamma=7",
    )
    add_shared(
        command,
        "--option",
        "; it holds for each method that has it, unless the method sets its own",
    )
    command.add_argument(
        "--classes", nargs="+", metavar="CLASS", help="their names, in the order of LOGITS"
    )
    command.add_argument(
        "--palette",
        default="default",
        help="default (made for colour-blind eyes), voc, ade20k, cityscapes, camvid, loveda, "
        "isaid, uavid or openearthmap",
    )
    for name in ("--background", "--size", "--span", "--no-download"):
        add_shared(command, name)


def _compare(arguments: argparse.Namespace) -> int:
    from lpprop.comparison import compare
    from lpprop.io.atomic import atomic_write
    from lpprop.io.images import load_image, save_image
    from lpprop.io.label_maps import load_labels
    from lpprop.regions.named import find_proposer

    if arguments.classes is not None:
        refuse_one_class("--classes", arguments.classes)
    check_saliency(arguments)
    paths = array_paths(arguments)
    proposer = regions_name(arguments)
    methods = _build_methods(arguments, ["image", *paths, *(["regions"] if proposer else [])])
    device = find_device(arguments.device)
    image = load_image(arguments.image, "IMAGE", upright=False)
    found = find_array_files(paths, [arguments.image])
    gt = None if arguments.gt is None else load_labels(arguments.gt, "--gt")
    inputs = load_inputs({name: files[0] for name, files in found.items()}, device)
    if proposer:
        download = not arguments.no_download
        inputs["regions"] = find_proposer(proposer, download=download, device=device)
    make_folder(arguments.out)
    with collect_warnings(shown=False):  # the table says them, beside their rows
        comparison = compare(
            inputs.pop("logits"), image=image, gt=gt, methods=methods, **inputs,
            class_names=arguments.classes, size=arguments.size, palette=arguments.palette,
            ignore_index=arguments.ignore_index, span=arguments.span,
            background=arguments.background,
        )  # fmt: skip
    comparison = _translate(comparison, arguments.command)
    print(comparison)
    target = arguments.out / f"{arguments.image.stem}_compare.png"
    save_image(target, comparison.figure(errors=gt is not None))
    tables = {".md": comparison.to_markdown(), ".csv": comparison.to_csv()}
    for suffix, table in tables.items():
        with atomic_write(target.with_suffix(suffix)) as file:
            file.write(table.encode())
    print(f"figure and tables: {visible(str(target.with_suffix('')))}.png, .md, .csv")
    return 0


def _translate(comparison: Comparison, command: argparse.ArgumentParser) -> Comparison:
    """Put what the table says into the words of the command."""
    rows = [
        row._replace(
            skipped=translate(row.skipped, command),
            warnings=tuple(translate(message, command) for message in row.warnings),
        )
        for row in comparison.rows
    ]
    of_all = tuple(translate(message, command) for message in comparison.warnings)
    return dataclasses.replace(comparison, rows=rows, warnings=of_all)


def _build_methods(
    arguments: argparse.Namespace, given: Collection[str]
) -> list[str | Chain] | None:
    """Build the methods with their options; None stands for the library's default."""
    from lpprop._core.options import hint
    from lpprop.comparison.inputs import default_presets
    from lpprop.compose.presets import find

    common = dict(arguments.option)
    if arguments.methods is None and not common:
        return None
    default = [(preset.name, dict[str, object]()) for preset in default_presets(given)]
    named = default if arguments.methods is None else arguments.methods
    known = {option for name, _ in named for option in find(name).options}
    for option in common:
        if option not in known:
            raise InputError.of(
                "--option",
                got=f"{option}, which none of these methods has",
                expected=f"one of {', '.join(sorted(known))}" if known else "none",
                fix=hint(option, known, f"Remove {option}."),
            )
    methods: list[str | Chain] = []
    for name, own in named:
        preset = find(name)
        options = {x: value for x, value in common.items() if x in preset.options} | own
        try:
            methods.append(preset(**options) if options else name)
        except ImportError:
            methods.append(name)  # whose row says which package it lacks
    return methods
