"""Regions of an image from files: arrays, PNG, and the masks that SAM's tools write."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lpprop._core.errors import InputError, warn
from lpprop._core.memory import check_room
from lpprop.io.arrays import ARRAY_SUFFIXES, load_numbers
from lpprop.io.files import refuse_damaged
from lpprop.io.label_maps import load_labels
from lpprop.io.rle import decode_rle, is_rle

__all__ = ["REGION_SUFFIXES", "load_regions"]

#: What the names of files end with that hold regions.
REGION_SUFFIXES = (*ARRAY_SUFFIXES, ".png", ".json")

_KINDS = "integers (H, W), or masks (M, H, W) of booleans, of 0 and 1, or of shares from 0 to 1"


def load_regions(path: Path | str, argument: str = "regions") -> Tensor:
    """Read the regions of one image.

    - .npy, .npz, .safetensors, .pt, .pth: a map of integers (H, W), negative in no region; or masks
      (M, H, W), boolean, integers that are all 0 or 1, or floats from 0 to 1. Of several arrays
      that named like the argument is taken.
    - .png of 8 or 16 bits, grey or indexed: a map. The largest value, 255 or 65535, marks pixels in
      no region. Of 1 bit: one mask.
    - .json: masks of one image in COCO's run-length encoding, in a list of dicts with
      "segmentation", as SAM's tools write them, or in such a list under "annotations".

    Args:
        path: the file; nothing in it is executed.
        argument: what errors call it, and the array's name among several.

    Returns:
        The map (H, W) int64, or masks (M, H, W), boolean or floating-point, on the CPU.

    Raises:
        InputError: a file that is missing, empty, damaged or of another format, that holds no
            regions, or more than the free memory.

    Warns:
        InputWarning: a map that looks like a mask of 0 and 255.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "a.npy"), np.array([[0, 0, 7], [0, -1, 7]]))
    ...     load_regions(Path(folder, "a.npy"))
    tensor([[ 0,  0,  7],
            [ 0, -1,  7]])
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".png":
        return _of_png(path, argument)
    if suffix == ".json":
        return _of_json(path, argument)
    if suffix not in ARRAY_SUFFIXES:
        raise InputError.of(
            argument,
            got=f"{path}, whose format is unknown",
            expected=f"one of {', '.join(REGION_SUFFIXES)}",
            fix="Save the regions with numpy.save.",
        )
    return _of_array(load_numbers(path, argument), path, argument)


def _of_array(array: Tensor, path: Path, argument: str) -> Tensor:
    held = f"an array of shape {tuple(array.shape)} of {array.dtype}"
    if array.ndim not in (2, 3) or 0 in array.shape[-2:]:
        raise _no_regions(path, argument, held)
    integers = array.dtype == torch.int64
    if array.ndim == 2:
        if integers:
            return array
        if array.dtype == torch.bool:
            return array[None]
        raise _no_regions(path, argument, held)
    if integers and not bool(((array == 0) | (array == 1)).all()):
        raise _no_regions(path, argument, f"{held}, with others than 0 and 1")
    # NaN is in no range.
    if array.is_floating_point() and not bool(((array >= 0) & (array <= 1)).all()):
        raise _no_regions(path, argument, f"{held}, with values that are not in [0, 1]")
    return array.bool() if integers else array


def _of_png(path: Path, argument: str) -> Tensor:
    stored = load_labels(path, argument)
    if stored.dtype == np.bool_:
        return torch.from_numpy(stored.copy())[None]
    labels = torch.from_numpy(stored.astype(np.int64))
    none = 2 ** (8 if stored.dtype == np.uint8 else 16) - 1
    if labels.unique().tolist() == [0, none]:
        warn(
            "mask as a map",
            f"{argument}: got {path} of 0 and {none} alone, which is read as one region, where it "
            f"is 0, and pixels in none. If {none} marks an object, save it as PNG of 1 bit.",
        )
    return labels.masked_fill_(labels == none, -1)


def _of_json(path: Path, argument: str) -> Tensor:
    with refuse_damaged(path, argument, "an undamaged JSON file"):
        # Python keeps a number of two characters in 36 bytes.
        check_room(
            argument,
            f"{path}, whose text needs",
            20 * path.stat().st_size,
            torch.device("cpu"),
            "Keep the masks of one image in a file.",
        )
        content = json.loads(path.read_bytes())
        listed = content.get("annotations") if isinstance(content, dict) else content
        items = listed if isinstance(listed, list) else []
        masks = [
            item.get("segmentation", item) if isinstance(item, dict) else item for item in items
        ]
        if not masks or not all(map(is_rle, masks)):
            held = "no mask" if not masks else "items that are none, such as polygons"
            raise InputError.of(
                argument,
                got=f"{path} with {held}",
                expected="masks in COCO's run-length encoding: a list of dicts with "
                '"segmentation": {"size": [H, W], "counts": ...}',
                fix="Write it as SAM's tools do, or save masks (M, H, W) with numpy.save; M is 0 "
                "where nothing was found.",
            )
        images = {str(item["image_id"]) for item in items if "image_id" in item}
        if len(images) > 1:
            raise InputError.of(
                argument,
                got=f"{path} with masks of {len(images)} images, by their image_id",
                expected="those of one image",
                fix="Write a file for each image, named after it.",
            )
        try:
            return decode_rle(masks, argument)
        except InputError as error:  # which names the mask, but not the file
            raise InputError(f"{argument}: got {path}, where {error}") from None


def _no_regions(path: Path, argument: str, held: str) -> InputError:
    return InputError.of(
        argument,
        got=f"{path}, which holds {held}",
        expected=_KINDS,
        fix="Save the regions of one image in one of these forms.",
    )
