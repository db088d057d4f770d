"""Labels as pictures: overlays, error maps, frames, and panels with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.convert import as_image
from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map
from lpprop._core.options import check_integer, check_number
from lpprop.viz.fonts import legible
from lpprop.viz.palettes import colours, named_colours
from lpprop.viz.sheets import Cell, Key, sheet

if TYPE_CHECKING:
    import numpy.typing as npt

    from lpprop.viz.palettes import Palette

__all__ = [
    "ERROR_KEYS",
    "as_picture",
    "borders",
    "colorize",
    "cut_labels",
    "error_map",
    "framed",
    "keys",
    "mark_borders",
    "overlay",
    "panels",
    "to_picture",
]

_WRONG, _IGNORED = (200, 30, 20), (130, 130, 135)

#: The legend of an error map.
ERROR_KEYS: list[Key] = [("wrong", _WRONG), ("ignored", _IGNORED)]


def colorize(labels: object, classes: int, *, palette: Palette = "default") -> Image.Image:
    """Paint each label in its colour.

    Args:
        labels: (H, W) integers in [0, classes), an array or a tensor on any device.
        classes: number of classes.
        palette: as `lpprop.viz.palettes.colours` takes it.

    Raises:
        InputError: labels of another shape, type or range, or a palette that cannot be used.

    >>> colorize([[0, 1]], classes=2).getpixel((1, 0))
    (230, 159, 0)
    """
    return Image.fromarray(colours(palette, classes)[as_label_map("labels", labels, classes)])


def as_picture(image: object) -> Image.Image:
    """Return an image as an RGB picture.

    Args:
        image: one image as `lpprop.refine` takes it: a PIL image, or an array or tensor (3, H, W),
            (H, W, 3), or either in a batch of one, uint8 or floats in [0, 1], on any device.

    Raises:
        InputError: anything else.

    >>> as_picture(torch.ones(1, 3, 2, 4)).getpixel((0, 0))
    (255, 255, 255)
    """
    tensor = as_image(image, like=torch.zeros(()))
    check_tensors(image=(tensor, "1 3 H W"))
    return to_picture(tensor)


def to_picture(image: Tensor) -> Image.Image:
    """Turn an image (1, 3, H, W) of floats in [0, 1] into a picture.

    >>> to_picture(torch.zeros(1, 3, 2, 4)).size
    (4, 2)
    """
    levels = (image[0].detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.movedim(0, -1).cpu().numpy())


def cut_labels(
    labels: npt.NDArray[Any], box: tuple[int, int, int, int], size: tuple[int, int]
) -> npt.NDArray[Any]:
    """Cut a region out of labels, and bring it to a picture's size by nearest neighbour.

    Args:
        labels: (H, W).
        box: y1, x1, y2, x2, ends excluded.
        size: width and height of the picture.

    >>> cut_labels(np.array([[0, 1], [2, 3]]), (0, 0, 1, 2), (4, 1))
    array([[0, 0, 1, 1]])
    """
    y1, x1, y2, x2 = box
    rows, columns = (
        first + ((np.arange(length) + 0.5) * (last - first) / length).astype(int)
        for first, last, length in ((y1, y2, size[1]), (x1, x2, size[0]))
    )
    cut: npt.NDArray[Any] = labels[rows[:, None], columns]
    return cut


def overlay(
    image: object,
    labels: object,
    classes: int,
    *,
    alpha: float = 0.55,
    outline: float = 1.0,
    palette: Palette = "default",
) -> Image.Image:
    """Lay the labels over their image as transparent colours, with a white line between classes.

    Args:
        image: the image, of the labels' size: a PIL image, an array or a tensor, as
            `lpprop.refine` takes it.
        labels: (H, W) integers in [0, classes), an array or a tensor on any device.
        classes: number of classes.
        alpha: opacity of the colours, in [0, 1].
        outline: opacity of the lines, in [0, 1].
        palette: as `lpprop.viz.palettes.colours` takes it.

    Returns:
        An RGB image.

    Raises:
        InputError: labels of another shape, type or range, an image of another size or one that
            cannot be used, a palette that cannot be used, or an opacity out of range.

    >>> overlay(Image.new("RGB", (2, 1)), [[0, 0]], classes=3, alpha=1).getpixel((0, 0))
    (0, 114, 178)
    """
    alpha, outline = (
        check_number(name, value, low=0, high=1)
        for name, value in (("alpha", alpha), ("outline", outline))
    )
    array, picture = _read_both(labels, classes, image)
    mixed = np.array(Image.blend(_grey(picture), colorize(array, classes, palette=palette), alpha))
    edge = mark_borders(array)
    mixed[edge] = (outline * 255 + (1 - outline) * mixed[edge]).round()
    return Image.fromarray(mixed)


def borders(image: object, regions: object) -> Image.Image:
    """Draw a white line between the regions of an image.

    Args:
        image: the image, of the regions' size, as `overlay` takes it.
        regions: (H, W) integers, the number of each pixel's region.

    Returns:
        An RGB image.

    Raises:
        InputError: regions that are no map of the image's size, or an image that cannot be used.

    >>> borders(Image.new("RGB", (3, 1)), [[4, 7, 7]]).getpixel((0, 0))
    (255, 255, 255)
    """
    array, picture = _read_both(regions, None, image, "regions")
    drawn = np.array(picture)
    drawn[mark_borders(array)] = 255
    return Image.fromarray(drawn)


def error_map(
    image: object, labels: object, gt: object, classes: int, *, ignore_index: int = 255
) -> Image.Image:
    """Mark the pixels with a wrong label over the image in light grey.

    Args:
        image: the image, of the labels' size, as `overlay` takes it.
        labels: (H, W) integers in [0, classes), an array or a tensor on any device.
        gt: (H, W) integers in [0, classes) or `ignore_index`, the true labels.
        classes: number of classes.
        ignore_index: the label of pixels without a true one, which are painted grey.

    Returns:
        An RGB image in the colours of `ERROR_KEYS`.

    Raises:
        InputError: labels of another shape, type or range, or an image of another size.

    >>> picture = error_map(Image.new("RGB", (3, 1)), [[0, 1, 1]], [[0, 0, 255]], classes=2)
    >>> [name for name, colour in ERROR_KEYS if colour == picture.getpixel((1, 0))]
    ['wrong']
    """
    array, picture = _read_both(labels, classes, image)
    true = as_label_map("gt", gt, classes, ignore_index)
    ignored = true == ignore_index
    if true.shape != array.shape:
        raise InputError.of(
            "gt",
            got=f"shape {true.shape}",
            expected=f"{array.shape}, that of labels",
            fix="Resize one to the other, labels by nearest neighbour.",
        )
    white = Image.new("RGB", picture.size, "white")
    marked = np.array(Image.blend(_grey(picture), white, 0.75))
    marked[(array != true) & ~ignored] = _WRONG
    marked[ignored] = _IGNORED
    return Image.fromarray(marked)


def framed(
    picture: Image.Image, box: tuple[float, float, float, float], *, width: int = 1
) -> Image.Image:
    """Draw a frame that is visible on any picture: a white line between black ones.

    Args:
        picture: an RGB image.
        box: left, upper, right and lower edge in pixels; the frame lies around it, or on it where
            the picture ends.
        width: width of the white line in pixels.

    Returns:
        A new image.

    >>> picture = framed(Image.new("RGB", (9, 9), (255, 0, 0)), (4, 4, 5, 5))
    >>> [picture.getpixel((x, 4)) for x in (1, 2, 3, 4)]
    [(0, 0, 0), (255, 255, 255), (0, 0, 0), (255, 0, 0)]
    """
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    reach = width + 2
    left, upper, right, lower = (
        min(max(round(edge), reach), end - reach)
        for edge, end in zip(box, picture.size * 2, strict=True)
    )
    for distance in range(1, reach + 1):
        draw.rectangle(
            (left - distance, upper - distance, right + distance - 1, lower + distance - 1),
            outline="black" if distance in (1, reach) else "white",
        )
    return picture


def _read_both(
    given: object, classes: int | None, image: object, name: str = "labels"
) -> tuple[npt.NDArray[Any], Image.Image]:
    """Return a label map as an array, and the image, which must have its size."""
    labels, picture = as_label_map(name, given, classes), as_picture(image)
    if picture.size != labels.shape[::-1]:
        raise InputError.of(
            "image",
            got=f"{picture.width} x {picture.height} pixels",
            expected=f"{labels.shape[1]} x {labels.shape[0]}, the size of the {name}",
            fix="Resize one to the other.",
        )
    return labels, picture


def _grey(picture: Image.Image) -> Image.Image:
    """Return a picture without its hues, so that those of the labels stand alone."""
    return picture.convert("L").convert("RGB")


def mark_borders(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark the pixels whose neighbour to the right or below has another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def keys(
    class_names: Sequence[str], palette: Palette = "default", only: Sequence[int] | None = None
) -> list[Key]:
    """Return the names and colours for a legend, of all classes or only of some.

    A class whose name no font of this machine has is called by its number. "None of these", the
    last one, has a grey of its own.

    >>> keys(["cat", "sofa"], only=[1])
    [('sofa', (230, 159, 0))]
    """
    if not class_names:
        return []
    known = named_colours(palette, class_names).tolist()
    shown = range(len(class_names)) if only is None else only
    names = {i: legible(class_names[i]) for i in shown}
    # What is left of a name that cannot be written is "?".
    return [(names[i] if names[i].strip("? ") else str(i), tuple(known[i])) for i in shown]


def panels(
    pictures: Sequence[tuple[str, Image.Image]],
    class_names: Sequence[str],
    note: str = "",
    *,
    columns: int = 4,
    palette: Palette = "default",
) -> Image.Image:
    """Set pictures in rows above a legend of the classes, each picture under its title.

    Args:
        pictures: titles and pictures, all of one size.
        class_names: names of the classes, in the order of the palette; "none of these" may be last.
        note: a line below the legend.
        columns: the most pictures per row, >= 1.
        palette: as `lpprop.viz.palettes.colours` takes it.

    Returns:
        An RGB image.

    Raises:
        InputError: no pictures, or `columns` or a palette that cannot be used.

    >>> panels([("image", Image.new("RGB", (64, 48)))], ["cat", "sofa"]).mode
    'RGB'
    """
    columns = check_integer("columns", columns)
    cells = [Cell(title, [picture]) for title, picture in pictures]
    if not cells:
        raise InputError.of(
            "pictures", got="none", expected="one or more", fix="Pass (title, picture) pairs."
        )
    return sheet(cells, [keys(class_names, palette)], note, columns=columns)
