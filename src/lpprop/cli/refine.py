"""`lpprop refine`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpprop._core.errors import InputError
from lpprop.cli.arguments import (
    add_arrays,
    add_command,
    add_shared,
    array_paths,
    check_saliency,
    list_methods,
    option_name,
    regions_name,
)
from lpprop.cli.common import (
    check_room,
    describe_method,
    find_array_files,
    find_device,
    find_inputs,
    load_inputs,
    make_folder,
    process_images,
)
from lpprop.cli.engines import add_job, check_engine, parse_place, refine_on_cluster
from lpprop.cli.rasters import add_raster_options, needs_tiles, refine_raster

if TYPE_CHECKING:
    import torch

    from lpprop.cli.results import Results
    from lpprop.compose.chain import Chain

__all__ = ["add_refine"]

_HELP = """\
Refine coarse segmentation scores of any model to the image's resolution.

Arrays may be .npy, .npz, .safetensors, .pt or .pth; of several in a file, the one named like the
option is taken ("logits", "feats", ...). Each may be a folder, and so may IMAGE: files of one stem
belong together. Regions may also be PNG (255, or 65535 of 16 bits, marks pixels in none) or JSON of
SAM's tools, or be proposed from the image by name.

An image counts as its stored pixels, to which the arrays belong: an EXIF orientation is not
applied, and a warning names it.

methods:
{methods}

auto has settings that suit a single image. Those of lposs and lposs+ are published ones, for the
patches of fifteen windows: where their k = 400 exceeds a quarter of the patches, a warning says so.

For each image DIR receives <stem>_labels.png (class indices with a palette), <stem>_overlay.png,
<stem>_scores.npy (float32, C x H x W), and <stem>_record.json, which says how they were made. The
same command skips images that have results. Results of other settings or inputs are refused: they
stay as they are, or --overwrite replaces them. With --background, scores are probabilities, and the
last channel and label are those of none of the classes; SALIENCY joins the decision.

Logits in GeoTIFF or Zarr, --tile, or an image that does not fit into memory, mean tiles: DIR then
receives <stem>_labels.tif with the image's georeference, and the same command continues a run that
was ended. The pixel step takes solver=chebyshev, by which tiles give what the whole image gives;
without --feats, auto is that step alone."""

_EXAMPLE = """\
example:
  lpprop refine street.jpg --logits street_logits.npy --feats street_feats.npy --out street
  lpprop refine images/ --logits logits/ --feats feats/ --out lposs --option feats_from=dinov2
  lpprop refine images/ --logits logits/ --attention sd2/ --out velocity --method max_velocity
  lpprop refine images/ --logits logits/ --regions sam/ --out voted --method region_vote
  lpprop refine street.jpg --logits street_logits.npy --regions slic --out voted \\
    --method region_vote
  lpprop refine city.tif --logits city_logits.tif --out city --tile 2048"""


def add_refine(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    short = "refine scores of any model, from files"
    command = add_command(
        commands, "refine", _refine,
        short=short, description=_HELP.format(methods=list_methods()), example=_EXAMPLE,
    )  # fmt: skip
    add_shared(command, "image", type=parse_place)
    add_arrays(command, required=False)
    add_shared(command, "--out", required=True, type=parse_place)
    command.add_argument("--method", default="auto", help="see above (default: auto)")
    for name in ("--option", "--background", "--size", "--span", "--no-download", "--overwrite"):
        add_shared(command, name)
    add_raster_options(command)
    add_job(command)


def _refine(arguments: argparse.Namespace) -> int:
    if check_engine(arguments):
        return refine_on_cluster(arguments)
    if arguments.logits is None:  # a manifest may name those of each image
        arguments.command.error("the following arguments are required: --logits")
    if needs_tiles(arguments):
        return refine_raster(arguments)
    from lpprop.cli.results import Results, find_pending
    from lpprop.regions.named import find_proposer

    chain = _build_chain(arguments)
    device = find_device(arguments.device)
    images = find_inputs(arguments)
    arrays = find_array_files(array_paths(arguments), images)
    proposer = regions_name(arguments)
    options = dict(arguments.option)
    settings = {"command": "refine", **describe_method(arguments.method, options)}
    settings |= {"size": arguments.size, "span": arguments.span, "regions": proposer}
    settings |= {"background": arguments.background}
    every = []
    for number, image in enumerate(images):
        files = {option_name(name): paths[number] for name, paths in arrays.items()}
        every.append(Results(image, arguments.out, settings, {"IMAGE": image, **files}))
    todo = find_pending(every, overwrite=arguments.overwrite)
    make_folder(arguments.out)

    given: dict[str, Any] = {
        name: getattr(arguments, name) for name in ("size", "span", "background")
    }
    if proposer:
        download = not arguments.no_download
        given["regions"] = find_proposer(proposer, download=download, device=device)

    def work(results: Results) -> None:
        _refine_image(results, list(arrays), chain, device, given)

    return process_images(arguments, every, todo, work, "refined")


def _build_chain(arguments: argparse.Namespace) -> Chain:
    """Build the method and check what it is given, so that none fails after the first image."""
    from lpprop.compose.composite import missing_input
    from lpprop.compose.pipeline import as_chain

    chain = as_chain(arguments.method, **dict(arguments.option))
    given: dict[str, Path | str] = {**array_paths(arguments)}
    check_saliency(arguments)
    if proposer := regions_name(arguments):
        given["regions"] = proposer
    for name, path in given.items():
        if name not in chain.takes and name not in ("logits", "feats", "saliency"):
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
    results: Results,
    names: list[str],
    chain: Chain,
    device: torch.device,
    given: Mapping[str, Any],
) -> None:
    """Refine an image by the files of the named inputs, and whatever else `refine` is given."""
    import torch

    from lpprop.compose.pipeline import refine
    from lpprop.io.arrays import as_float32
    from lpprop.io.images import load_image
    from lpprop.io.label_maps import check_class_count, label_image
    from lpprop.viz.drawing import overlay
    from lpprop.viz.palettes import colours

    rejects = given["background"] is not None
    fingerprints = results.fingerprints()
    image = load_image(results.image, "IMAGE", upright=False)
    inputs = load_inputs({name: results.inputs[option_name(name)] for name in names}, device)
    logits = inputs.pop("logits")
    if logits.ndim >= 3:
        check_class_count(logits.shape[-3])
        sizes = (
            ("--size", given["size"]) if given["size"] else ("IMAGE", (image.height, image.width))
        )
        check_room(sizes[0], logits.shape[-3] + rejects, sizes[1], device)
    with torch.inference_mode():
        scores = refine(logits, image=image, method=chain, **{**given, **inputs})[0]
        labels = scores.argmax(0)
    classes = len(scores) - rejects
    palette = colours("default", classes, background=rejects)
    image = image.resize((labels.shape[1], labels.shape[0]))
    results.write(
        label_image(labels, classes, background=rejects),
        overlay(image, labels, len(scores), palette=palette),
        as_float32(scores, results.scores_file),
        fingerprints,
    )
