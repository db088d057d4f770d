"""Colours for classes: one set that colour-blind eyes tell apart, and those of the data sets."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lpprop._core.errors import InputError
from lpprop._core.options import (
    check_choice,
    check_integer,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Palette = str | npt.NDArray[np.uint8]

__all__ = ["PALETTES", "colours", "palette"]

#: Names that `colours` takes.
PALETTES = ("default", "voc", "ade20k", "cityscapes", "camvid")

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

# The colours that the data sets publish for their classes, RGB in hexadecimal, in their order.
_ADE20K = (
    "787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33"
    "ff06528fff8cccff04ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff"
    "08ffd607ffe0ffb8060aff47ff290a07ffffe0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ff"
    "eb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe00099ff000000ffff470000ebff00adff1f00ff"
    "0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff000052ff00ff2900ffad"
    "0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc2"
    "00ff52000aff0070ff3300ff00c2ff007aff00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa"
    "8500ff00ff5cb800ffff001f00b8ff00d6ffff00705cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3"
    "ffcc00ff008f00ffeb85ff00ff00ebf500ffff007afff5000abed4d6ff0000ccff1400ffffff000099ff0029ff"
    "00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cffb8ff000085ffffd60019c2c266ff005c00ff"
)
_CITYSCAPES = (
    "804080f423e846464666669cbe9999999999faaa1edcdc006b8e2398fb98"
    "4682b4dc143cff000000008e000046003c640050640000e6770b20"
)
_CAMVID = "808080800000c0c0808040800000c0808000c080804040804000804040000080c0"


def colours(palette: Palette, classes: int) -> npt.NDArray[np.uint8]:
    """Return a colour for each class, from a palette by name or from colours of your own.

    "default" is `palette`. "voc" is the colour map of PASCAL VOC and of what follows it, whose
    first is the background's black. "ade20k" has 150 colours (road and skyscraper share one),
    "cityscapes" the 19 of the classes that are evaluated, and "camvid" 11 from sky to bicyclist.

    Args:
        palette: a name in `PALETTES`, or RGB colours (n, 3) of uint8, n >= classes.
        classes: number of colours, >= 1.

    Returns:
        RGB, shape (classes, 3).

    Raises:
        InputError: an unknown name, other colours than such, or fewer of them than classes.

    >>> colours("voc", 3)
    array([[  0,   0,   0],
           [128,   0,   0],
           [  0, 128,   0]], dtype=uint8)
    """
    check_integer("classes", classes)
    known = _named(palette, classes) if isinstance(palette, str) else np.asarray(palette)
    if known.dtype != np.uint8 or known.ndim != 2 or known.shape[1] != 3:
        raise InputError.of(
            "palette",
            got=f"shape {known.shape} of {known.dtype}",
            expected="RGB colours (n, 3) of uint8",
            fix=f"Pass such an array, or one of {', '.join(map(repr, PALETTES))}.",
        )
    if classes > len(known):
        name = repr(palette) if isinstance(palette, str) else "a palette"
        raise InputError.of(
            "palette",
            got=f"{name} with {len(known)} colours",
            expected=f"{classes}, one a class",
            fix="Use 'default'.",
        )
    return known[:classes]


def _named(name: str, classes: int) -> npt.NDArray[np.uint8]:
    check_choice("palette", name, PALETTES)
    if name == "default":
        return palette(classes)
    if name == "voc":
        return _voc()
    published = {"ade20k": _ADE20K, "cityscapes": _CITYSCAPES, "camvid": _CAMVID}
    return np.frombuffer(bytes.fromhex(published[name]), np.uint8).reshape(-1, 3)


def _voc() -> npt.NDArray[np.uint8]:
    """Spread the bits of each class over red, green and blue in turn, the lowest ones on top."""
    index = np.arange(_PALETTE_SIZE)[:, None]
    bits = [(index >> (3 * place + np.arange(3)) & 1) << (7 - place) for place in range(8)]
    spread: npt.NDArray[np.uint8] = np.sum(bits, axis=0).astype(np.uint8)
    return spread


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
    check_integer("classes", classes)
    return _default()[np.arange(classes) % _PALETTE_SIZE]


@lru_cache
def _default() -> npt.NDArray[np.uint8]:
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
