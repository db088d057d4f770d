"""Label maps painted from COCO's instance annotations."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from lpprop._core.errors import InputError
from lpprop._core.optional import import_hint

__all__ = ["list_images", "paint_instances"]


class _Annotated(NamedTuple):
    """The size of an image, and the instances in it."""

    height: int
    width: int
    instances: list[dict[str, Any]]


def list_images(path: Path) -> list[str]:
    """List the images of an annotation file.

    Raises:
        ImportError: the extra `eval`, which rasterises instances, is not installed.
        InputError: a file that is damaged or holds something else.
    """
    _import_tools()
    return list(_load_annotations(path))


def paint_instances(
    name: str, path: Path, *, classes: Mapping[int, int]
) -> UInt8[np.ndarray, "H W"]:
    """Paint an image's instances as classes (H, W), over background, class 0.

    Instances overlap, such as a plate on a table. They are painted from the largest to the
    smallest, those of equal size in the order of the file, so that small ones stay visible. Crowd
    regions, which outline many things at once, are painted first.

    Args:
        name: the stem of the image's name.
        path: the annotation file.
        classes: the class of each category id.
    """
    images = _load_annotations(path)
    if name not in images:
        raise _unusable_error(path, f"no image {name!r}")
    height, width, instances = images[name]
    painted = np.zeros((height, width), dtype=np.uint8)
    try:
        masks = [_mask(one["segmentation"], height, width) for one in instances]
        crowds = [bool(one["iscrowd"]) for one in instances]
        areas = [int(mask.sum()) for mask in masks]
        for number in sorted(range(len(masks)), key=lambda i: (not crowds[i], -areas[i])):
            category = instances[number]["category_id"]
            if category not in classes:
                raise ValueError(f"the category {category}")
            painted[masks[number]] = classes[category]
    except Exception as error:  # pycocotools raises TypeError, ValueError, KeyError, Exception
        raise _unusable_error(path, f"damaged annotations of {name!r} ({error!r})") from error
    return painted


def _mask(segmentation: Any, height: int, width: int) -> Bool[np.ndarray, "H W"]:
    """Rasterise polygons, or decode a run-length code, by COCO's own tools."""
    coco = _import_tools()
    if isinstance(segmentation, list):
        code = coco.merge(coco.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        code = coco.frPyObjects(segmentation, height, width)
    else:
        code = segmentation
    if tuple(code["size"]) != (height, width):
        raise ValueError(f"a mask of {code['size']}, not {[height, width]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pycocotools under NumPy 2
        mask: Bool[np.ndarray, "H W"] = coco.decode(code).astype(bool)
    return mask


def _import_tools() -> Any:
    with import_hint("COCO's instances need an extra: pip install 'lpprop[eval]'"):
        from pycocotools import mask
    return mask


def _load_annotations(path: Path) -> dict[str, _Annotated]:
    """Return the images of an annotation file by the stems of their names."""
    try:
        state = path.stat()
    except OSError as error:
        raise _unusable_error(path, f"no content ({error!r})") from error
    return _read(path, state.st_mtime_ns, state.st_size)


# One file per process: it takes seconds to parse, and all samples of a data set share it.
@lru_cache(maxsize=1)
def _read(path: Path, changed: int, size: int) -> dict[str, _Annotated]:
    try:
        stored = json.loads(path.read_bytes())
        images = {
            int(image["id"]): (
                Path(image["file_name"]).stem,
                _Annotated(int(image["height"]), int(image["width"]), []),
            )
            for image in stored["images"]
        }
        for instance in stored["annotations"]:
            images[int(instance["image_id"])][1].instances.append(instance)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unusable_error(path, f"damaged content ({error!r})") from error
    return dict(images.values())


def _unusable_error(path: Path, held: str) -> InputError:
    return InputError.of(
        "labels",
        got=f"{path} with {held[:200]}",
        expected="COCO's instance annotations of these images",
        fix="Download or unpack annotations_trainval2017.zip again.",
    )
