"""Labels as pictures: a palette, overlays, and panels side by side with a legend."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from lpprop.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["colorize", "overlay", "palette", "panels"]

# Okabe and Ito's colours, the order chosen so that the first few differ in lightness too.
_OKABE_ITO = (
    (0, 114, 178),  # blue
    (230, 159, 0),  # orange
    (0, 158, 115),  # green
    (204, 121, 167),  # purple
    (240, 228, 66),  # yellow
    (213, 94, 0),  # vermilion
    (86, 180, 233),  # sky blue
    (0, 0, 0),
)
_PALETTE_SIZE = 256

# What people with protanopia and deuteranopia see, in linear RGB (Machado et al., 2009).
_VISION = np.array(
    [
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]],
    ]
)  # fmt: skip

_INK, _PAPER, _FAINT = (28, 28, 30), (255, 255, 255), (110, 110, 115)


def palette(classes: int) -> npt.NDArray[np.uint8]:
    """Return a colour for each class, told apart with colour-blind eyes as far as possible.

    The first eight are Okabe and Ito's. Each further one is that of a grid of RGB colours whose
    nearest colour so far is farthest away in Lab, in the worst of normal, protan and deutan
    vision. From 256 on the colours repeat.

    Args:
        classes: number of colours, >= 1.

    Returns:
        RGB, shape (classes, 3).

    >>> palette(2)
    array([[  0, 114, 178],
           [230, 159,   0]], dtype=uint8)
    """
    if classes < 1:
        raise InputError.of(
            "classes", got=str(classes), expected="an integer >= 1", fix="Change classes."
        )
    return _colours()[np.arange(classes) % _PALETTE_SIZE]


@lru_cache
def _colours() -> npt.NDArray[np.uint8]:
    axis = np.linspace(16, 255, 12).round()
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    colours = np.concatenate([np.array(_OKABE_ITO, dtype=float), grid])
    seen = _seen_lab(colours)
    chosen = list(range(len(_OKABE_ITO)))
    # White is the paper: no class should look like it.
    nearest = _distance(seen, _seen_lab(np.full((1, 3), 255.0)))
    for number in range(_PALETTE_SIZE):
        if number == len(chosen):
            chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distance(seen, seen[:, chosen[number], None]))
    return colours[chosen].astype(np.uint8)


def _distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    worst: npt.NDArray[Any] = np.linalg.norm(a - b, axis=-1).min(axis=0)
    return worst


def _seen_lab(rgb: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Map sRGB (n, 3) in 0-255 to CIE Lab (3, n, 3) under each kind of vision."""
    unit = rgb / 255
    linear = np.where(unit <= 0.04045, unit / 12.92, ((unit + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ _VISION.transpose(0, 2, 1), 0, 1)
    to_xyz = np.array(
        [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169],
         [0.019334, 0.119193, 0.950227]]
    )  # fmt: skip
    xyz = seen @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def colorize(labels: object, classes: int) -> Image.Image:
    """Paint each label in its colour of `palette`.

    Args:
        labels: (H, W) integers in [0, classes), an array or a tensor on any device.
        classes: number of classes.

    Raises:
        InputError: labels of another shape, type or range.

    >>> colorize([[0, 1]], classes=2).getpixel((1, 0))
    (230, 159, 0)
    """
    return Image.fromarray(palette(classes)[_as_labels(labels, classes)])


def overlay(
    image: Image.Image, labels: object, classes: int, *, alpha: float = 0.55
) -> Image.Image:
    """Lay the labels over their image as transparent colours, with a line between classes.

    Args:
        image: the image, of the labels' size.
        labels: (H, W) integers in [0, classes), an array or a tensor on any device.
        classes: number of classes.
        alpha: opacity of the colours, in [0, 1].

    Returns:
        An RGB image.

    Raises:
        InputError: labels of another shape, type or range, or an image of another size.

    >>> overlay(Image.new("RGB", (2, 1)), [[0, 0]], classes=3, alpha=1).getpixel((0, 0))
    (0, 114, 178)
    """
    array = _as_labels(labels, classes)
    if image.size != array.shape[::-1]:
        raise InputError.of(
            "image",
            got=f"{image.width} x {image.height} pixels",
            expected=f"{array.shape[1]} x {array.shape[0]}, the labels' size",
            fix="Resize one to the other.",
        )
    # Under the colours the image is grey: hues then belong to the classes alone.
    grey = image.convert("L").convert("RGB")
    mixed = np.array(Image.blend(grey, colorize(array, classes), alpha))
    mixed[_boundaries(array)] = 255
    return Image.fromarray(mixed)


def _boundaries(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mark the pixels whose neighbour to the right or below has another label."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edge[:-1] |= labels[:-1] != labels[1:]
    return edge


def _as_labels(labels: object, classes: int) -> npt.NDArray[Any]:
    array = np.asarray(labels.cpu() if isinstance(labels, torch.Tensor) else labels)
    if array.ndim != 2 or array.dtype.kind not in "iu" or array.size == 0:
        raise InputError.of(
            "labels",
            got=f"shape {array.shape} of {array.dtype}",
            expected="integers (H, W)",
            fix="Take scores.argmax(1) and one item of the batch.",
        )
    if array.min() < 0 or array.max() >= classes:
        raise InputError.of(
            "labels",
            got=f"values from {array.min()} to {array.max()}",
            expected=f"0 to {classes - 1} for {classes} classes",
            fix="Check the number of classes.",
        )
    return array


def panels(
    pictures: Sequence[tuple[str, Image.Image]],
    labels: Sequence[str],
    note: str = "",
    *,
    columns: int = 4,
) -> Image.Image:
    """Set pictures in rows, each under its title, above a legend of the classes.

    Args:
        pictures: titles and pictures, all of one size.
        labels: names of the classes, in the order of `palette`.
        note: a line below the legend.
        columns: pictures a row, >= 1.

    Returns:
        An RGB image.

    >>> panels([("image", Image.new("RGB", (64, 48)))], ["cat", "sofa"]).mode
    'RGB'
    """
    unit = 16
    title, text, small = (ImageFont.load_default(size) for size in (38, 34, 26))
    column = max(320, *(picture.width for _, picture in pictures))
    row = 5 * unit + max(picture.height for _, picture in pictures)
    across = min(columns, len(pictures))
    width = across * (column + unit) + 3 * unit
    legend = _legend_rows(labels, text, width - 4 * unit, unit)
    top = row * -(-len(pictures) // across)
    height = top + 2 * unit + 3 * unit * len(legend) + (3 * unit if note else 0) + unit
    page = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(page)

    for number, (name, picture) in enumerate(pictures):
        left = 2 * unit + number % across * (column + unit)
        upper = number // across * row
        draw.text(
            (left, upper + 2.5 * unit), _fitted(name, title, column), _INK, title, anchor="lm"
        )
        page.paste(picture, (left, upper + 5 * unit))

    colours = palette(max(len(labels), 1))
    middle = top + 3.5 * unit
    for line in legend:
        for x, number, name in line:
            swatch = (x, middle - unit, x + 2 * unit, middle + unit)
            draw.rounded_rectangle(swatch, unit / 3, tuple(colours[number].tolist()))
            draw.text((x + 2.75 * unit, middle), name, _INK, text, anchor="lm")
        middle += 3 * unit
    draw.text(
        (2 * unit, middle), _fitted(note, small, width - 4 * unit), _FAINT, small, anchor="lm"
    )
    return page


_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def _legend_rows(
    labels: Sequence[str], font: _Font, width: float, unit: int
) -> list[list[tuple[float, int, str]]]:
    """Break the legend into rows of (left edge, class, name that fits)."""
    rows: list[list[tuple[float, int, str]]] = []
    right = float("inf")
    for number, label in enumerate(labels):
        name = _fitted(label, font, width - 3 * unit)
        needed = 2.75 * unit + font.getlength(name)
        if right + needed > width:
            rows.append([])
            right = 0.0
        rows[-1].append((2 * unit + right, number, name))
        right += needed + 2.5 * unit
    return rows


def _fitted(text: str, font: _Font, width: float) -> str:
    """Shorten a text to one line of a width."""
    text = " ".join(text.split())[:300]
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
