"""COCO's run-length encoding of masks, as SAM's tools and pycocotools write it.

    {"size": [H, W], "counts": [3, 2, ...]}      numbers of 0, 1, 0, ... down the columns
    {"size": [H, W], "counts": "32..."}          the same numbers in characters

It is decoded here, since pycocotools trusts what it is given, and a file may lie.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.memory import check_room

__all__ = ["decode_rle", "is_rle"]

# A character holds 5 bits of a number, and one that says whether more follow; from "0" on.
_BITS, _FIRST = 5, 48
_DIGITS, _MORE, _NEGATIVE = 0x1F, 0x20, 0x10


def is_rle(value: object) -> bool:
    """Tell whether a value looks like a mask in this encoding.

    >>> is_rle({"size": [2, 3], "counts": [1, 2, 3]}), is_rle([[0, 1]])
    (True, False)
    """
    return isinstance(value, Mapping) and {"size", "counts"} <= set(value)


def decode_rle(masks: Sequence[Mapping[str, Any]], argument: str) -> Bool[Tensor, "M H W"]:
    """Decode masks of one size.

    Args:
        masks: at least one, each with "size" and "counts", the latter a list, a text or bytes.
        argument: what errors call them.

    Raises:
        InputError: masks of no or of several sizes, counts that are damaged or not of that size, or
            masks that do not fit into the free memory.

    >>> decode_rle([{"size": [2, 3], "counts": [1, 2, 3]}, {"size": [2, 3], "counts": "123"}], "a")
    tensor([[[False,  True, False],
             [ True, False, False]],
    <BLANKLINE>
            [[False,  True, False],
             [ True, False, False]]])
    """
    sizes = [_size(mask["size"], f"{argument}[{number}]") for number, mask in enumerate(masks)]
    for number, size in enumerate(sizes):
        if size != sizes[0]:
            raise InputError.of(
                f"{argument}[{number}]",
                got=f"a mask of {size[0]} x {size[1]} pixels",
                expected=f"{sizes[0][0]} x {sizes[0][1]}, as {argument}[0] has",
                fix="Keep the masks of each image apart.",
            )
    height, width = sizes[0]
    # Before any is decoded: a few bytes can stand for any number of pixels.
    check_room(
        argument,
        f"{len(masks)} masks of {height} x {width} pixels, which need",
        len(masks) * height * width,
        torch.device("cpu"),
        "Keep fewer masks, or smaller ones.",
    )
    decoded = torch.empty(len(masks), height, width, dtype=torch.bool)
    for number, mask in enumerate(masks):
        name = f"{argument}[{number}]"
        counts = mask["counts"]
        text = isinstance(counts, (str, bytes))
        runs = _read_text(counts, name) if text else _read_list(counts, name)
        if (runs < 0).any() or int(runs.sum()) != height * width:
            total = "a negative one" if (runs < 0).any() else f"a sum of {int(runs.sum())}"
            raise _damaged(name, f"counts with {total} for {height} x {width} pixels")
        values = np.arange(len(runs)) % 2 == 1
        columns = np.repeat(values, runs).reshape(width, height)
        decoded[number] = torch.from_numpy(columns.T.copy())
    return decoded


def _size(size: object, name: str) -> tuple[int, int]:
    sides = list(size) if isinstance(size, (list, tuple)) else []
    if len(sides) != 2 or not all(_is_integer(side) and 0 < side < 2**31 for side in sides):
        raise _damaged(name, f"the size {reprlib.repr(size)}")
    return int(sides[0]), int(sides[1])


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _read_list(counts: object, name: str) -> NDArray[np.int64]:
    listed = counts if isinstance(counts, (list, tuple)) else []
    if not listed or not all(_is_integer(count) and 0 <= count < 2**62 for count in listed):
        raise _damaged(name, f"the counts {reprlib.repr(counts)}")
    return _bounded(np.array(listed, np.int64), name)


def _read_text(counts: str | bytes, name: str) -> NDArray[np.int64]:
    """Read numbers of 5-bit digits, the lowest first; from the fourth on, they are differences."""
    raw = counts if isinstance(counts, bytes) else counts.encode(errors="replace")
    characters = np.frombuffer(raw, np.uint8).astype(np.int64) - _FIRST
    last = characters & _MORE == 0
    inside = (characters >= 0) & (characters < 2 * _MORE)
    if not len(characters) or not inside.all() or not last[-1]:
        raise _damaged(name, f"the counts {reprlib.repr(counts)}")
    start = np.flatnonzero(np.concatenate([[True], last[:-1]]))
    length = np.diff(np.append(start, len(characters)))
    if length.max() > 12:  # 60 bits
        raise _damaged(name, "counts of more than 60 bits")
    place = np.arange(len(characters)) - np.repeat(start, length)
    number = np.add.reduceat((characters & _DIGITS) << (_BITS * place), start)
    negative = characters[last] & _NEGATIVE != 0
    number = np.where(negative, number - (1 << (_BITS * length)), number)
    _bounded(np.abs(number), name)
    # Each is the difference to the one before the last; the third is not.
    number[1::2] = number[1::2].cumsum()
    number[2::2] = number[2::2].cumsum()
    return number


def _bounded(runs: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """Refuse numbers whose sum 64 bits could not hold."""
    if float(runs.astype(np.float64).sum()) >= 2**62:
        raise _damaged(name, "counts beyond any image")
    return runs


def _damaged(name: str, held: str) -> InputError:
    return InputError.of(
        name,
        got=held,
        expected="a mask in COCO's run-length encoding, of H x W pixels in all",
        fix="Write it with pycocotools.mask.encode, or as SAM's tools do.",
    )
