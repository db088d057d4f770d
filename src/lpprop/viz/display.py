"""One call that shows what a label map says: the image, the labels over it, and their legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from lpprop._core.convert import only_item
from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map, check_ignore_index
from lpprop._core.options import check_integer, check_names
from lpprop.viz.drawing import ERROR_KEYS, as_picture, cut_labels, keys, overlay
from lpprop.viz.palettes import named_colours
from lpprop.viz.sheets import Cell, sheet

if TYPE_CHECKING:
    from lpprop.viz.palettes import Palette

__all__ = ["show"]

# Without names, labels are numbers of classes; those beyond 16 bits are something else.
_MOST = 2**16


def show(
    image: object,
    labels: object,
    names: Sequence[str] | None = None,
    *,
    side: int = 480,
    palette: Palette = "default",
    ignore_index: int | None = None,
) -> Image.Image:
    """Draw an image, its labels over it, and a legend of the classes that occur.

        lpprop.show(image, scores.argmax(1), ["cat", "sofa", "wall"])

    A notebook shows the picture; `.save("labels.png")` writes it.

    Args:
        image: one image as `lpprop.refine` takes it: a PIL image, or an array or tensor (3, H, W),
            (H, W, 3), or either in a batch of one, uint8 or floats in [0, 1], on any device.
        labels: (H, W) or (1, H, W) class indices, an array or a tensor; also those of a coarser or
            finer grid of the image's shape, such as (14, 14) for (224, 224).
        names: a list of strings, one per class; their numbers if None. If the last is "none of
            these", as a `Segmenter` with a background calls it, it is painted grey.
        side: pixels of the longer side of each of the two pictures, >= 64.
        palette: as `lpprop.viz.palettes.colours` takes it.
        ignore_index: the label of pixels that have no class, which are painted grey, such as 255
            in true labels.

    Returns:
        An RGB image.

    Raises:
        InputError: an image, labels, names or a palette that cannot be used, or labels of another
            shape than the image's.

    >>> import torch
    >>> show(torch.rand(1, 3, 48, 64), torch.zeros(1, 3, 4, dtype=torch.int64), ["cat"]).mode
    'RGB'
    """
    side = check_integer("side", side, low=64)
    picture, named = as_picture(image), None if names is None else check_names("names", names)
    classes = _MOST if named is None else len(named)
    if ignore_index is not None:
        ignore_index = check_ignore_index(ignore_index, 0 if named is None else classes)
    array = as_label_map("labels", only_item(labels), classes, ignore_index).astype(np.int64)
    _check_shape(array.shape, picture)
    counted = array if ignore_index is None else array[array != ignore_index]
    seen = np.unique(counted).tolist()
    if named is None:
        named = [str(number) for number in range(max(seen, default=0) + 1)]

    # The last colour is that of the pixels without a class.
    _, (ignored, grey) = ERROR_KEYS
    painted = np.concatenate([named_colours(palette, named), np.array([grey], np.uint8)])
    if ignore_index is not None:
        array = np.where(array == ignore_index, len(named), array)
    scale = side / max(picture.size)
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    labels = cut_labels(array, (0, 0, *array.shape), size)
    # Faint lines do not hide fine patterns.
    drawn = overlay(picture, labels, len(painted), outline=0.5, palette=painted)
    legend = keys(named, palette, seen)
    marks = [(ignored, grey)] if len(counted) < array.size and ignore_index is not None else []
    cells = [Cell("image", [picture]), Cell("labels", [drawn])]
    return sheet(cells, [legend, marks], columns=2, unit=max(6, side // 40))


def _check_shape(shape: tuple[int, ...], picture: Image.Image) -> None:
    """Refuse labels that are neither of the image's size nor of a grid of its shape."""
    height, width = shape
    # A grid of h rows has w = h W / H columns, up to one, and the other way round.
    if abs(height * picture.width - width * picture.height) >= max(picture.size):
        turned = (height, width) == picture.size
        raise InputError.of(
            "labels",
            got=f"{height} x {width} pixels",
            expected=f"{picture.height} x {picture.width}, as the image, or a grid of that shape",
            fix="They look turned: transpose them." if turned else "Pass the labels of this image.",
        )
