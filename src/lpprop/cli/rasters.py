"""`lpprop refine` of images that do not fit into memory, or are rasters: tile by tile."""

from __future__ import annotations

import argparse
from typing import Any

from lpprop._core.errors import InputError
from lpprop.cli.arguments import array_paths, option_name, regions_name
from lpprop.cli.common import make_folder, say
from lpprop.cli.messages import visible

__all__ = ["add_raster_options", "needs_tiles", "refine_raster"]

# Files that are read by windows alone.
_RASTERS = (".tif", ".tiff", ".zarr")
# Side of a tile where nobody says another.
_TILE = 1024
# What works on whole images only.
_WHOLE = ("attention", "pixel_feats", "region_scores", "saliency", "background", "size", "span")


def add_raster_options(command: argparse.ArgumentParser) -> None:
    """Add what concerns tiles."""
    group = command.add_argument_group("large images (GeoTIFF, Zarr and .npy, read by windows)")
    group.add_argument(
        "--tile", type=int, metavar="PIXELS", help="refine in tiles of this side (1024 if needed)"
    )
    group.add_argument(
        "--bands", type=int, nargs=3, default=(1, 2, 3), metavar=("R", "G", "B"),
        help="bands of IMAGE that are red, green and blue (default: 1 2 3)",
    )  # fmt: skip
    group.add_argument(
        "--white", type=float, help="IMAGE's value of white (default: 255, or 65535 of 16 bits)"
    )
    group.add_argument(
        "--nodata", type=float, help="IMAGE's value of pixels without data (default: its file's)"
    )
    group.add_argument("--save-scores", action="store_true", help="write <stem>_scores.tif too")


def needs_tiles(arguments: argparse.Namespace) -> bool:
    """Tell whether an image has to be refined in tiles: asked for, a raster, or too large.

    Raises:
        InputError: options of tiles for images that are refined as a whole.
    """
    logits, image = arguments.logits, arguments.image
    if arguments.tile is not None or logits.suffix.lower() in _RASTERS:
        return True
    if image.suffix.lower() == ".tif" and image.is_file() and logits.suffix.lower() == ".npy":
        needed = _exceeds_memory(arguments)
        if needed:
            say(f"{image.name} does not fit into memory: in tiles of {_TILE} pixels (--tile)")
        if needed:
            return True
    _refuse_tile_options(arguments)
    return False


def _refuse_tile_options(arguments: argparse.Namespace) -> None:
    """Refuse what would have no effect on an image that is refined as a whole."""
    given = {name: getattr(arguments, name) for name in ("white", "nodata")}
    given["bands"] = None if tuple(arguments.bands) == (1, 2, 3) else arguments.bands
    given["save_scores"] = arguments.save_scores or None
    for name, value in given.items():
        if value is not None:
            raise InputError.of(
                option_name(name),
                got=str(value),
                expected="--tile beside it, since it concerns tiles",
                fix="Add --tile 1024, or leave it out.",
            )


def _exceeds_memory(arguments: argparse.Namespace) -> bool:
    """Tell whether a step's forecast, or the results alone, exceed the memory that is free."""
    import importlib.util

    import torch

    from lpprop._core.refiner import Refiner
    from lpprop.cli.common import check_room
    from lpprop.compose.composite import steps_of
    from lpprop.compose.pipeline import as_chain

    if importlib.util.find_spec("rasterio") is None:
        return False
    from lpprop.tiled.rasters import open_raster

    size = open_raster(arguments.image, "IMAGE").shape[1:]
    classes = open_raster(arguments.logits, "--logits").shape[0]
    nothing = torch.zeros(())  # expanded, so that it takes no memory itself
    logits, image = (nothing.expand(1, bands, *size) for bands in (classes, 3))
    try:
        check_room("IMAGE", classes, size, torch.device("cpu"))
        for step in steps_of(as_chain(arguments.method, **dict(arguments.option))):
            if isinstance(step, Refiner):
                step.check_room(logits, {"image": image})
    except InputError:
        return True
    return False


def refine_raster(arguments: argparse.Namespace) -> int:
    """Refine one image in tiles, by files of rasters; return the exit code."""
    from lpprop.tiled import refine

    given: dict[str, Any] = {name: getattr(arguments, name, None) for name in _WHOLE}
    for name, value in given.items():
        if value is not None:
            raise InputError.of(
                option_name(name),
                got=str(value),
                expected="nothing, since tiles are refined",
                fix="Leave it out, or --tile if the image fits into memory.",
            )
    if regions_name(arguments):
        raise InputError.of(
            "--regions",
            got=arguments.regions,
            expected="a raster of numbers: regions that are proposed tile by tile end at each",
            fix="Make the regions of the whole image before, and pass their file.",
        )
    if arguments.image.is_dir() and arguments.image.suffix.lower() != ".zarr":
        raise InputError.of(
            "IMAGE",
            got=f"{arguments.image}, a folder",
            expected="one image, where tiles are refined",
            fix="Call the command for each.",
        )
    make_folder(arguments.out)
    paths = array_paths(arguments)
    stem = arguments.image.stem
    scores = arguments.out / f"{stem}_scores.tif" if arguments.save_scores else None
    done = refine(
        paths["logits"], arguments.image, arguments.out / f"{stem}_labels.tif",
        feats=paths.get("feats"), regions=paths.get("regions"), scores=scores,
        method=arguments.method, tile=_TILE if arguments.tile is None else arguments.tile,
        bands=arguments.bands, white=arguments.white, nodata=arguments.nodata,
        overwrite=arguments.overwrite, **dict(arguments.option),
    )  # fmt: skip
    made, out = done.tiles - done.resumed, visible(str(arguments.out))
    earlier = f", {done.resumed} were there" if done.resumed else ""
    print(f"{made} tile{'s' * (made != 1)} refined into {out}{earlier}")
    return 0
