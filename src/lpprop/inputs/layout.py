"""Recognise a grid whose axes are in another order than (B, C, h, w), by the image's shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from lpprop._core.errors import InputError, warn
from lpprop.inputs.patch_grid import spans

__all__ = ["check_layout", "is_turned", "refuse_turned", "warn_of_aspect"]

# Tokens beside those of the patches: none; a class token; that and one of distillation; that and
# four registers.
_EXTRA_TOKENS = (0, 1, 2, 5)
# Almost any small number of tokens makes a grid of some shape.
_FEWEST_TOKENS = 16
_MANY_TOKENS = 100
_CLOSE = 0.03


def check_layout(name: str, grid: Tensor, pixels: tuple[int, int]) -> None:
    """Compare a grid's shape with that of the pixels that it covers.

    The patches of a grid are square in the image, unless the image was squashed for the model. If
    they are not, and would be with the axes in another order, then the order is wrong.

    Args:
        name: the argument, for messages.
        grid: a tensor that should be (B, C, h, w); (h, w, C) arrives as (1, h, w, C).
        pixels: (H, W) that the grid covers.

    Raises:
        InputError: tokens, channels last, or height and width swapped.
    """
    shape = tuple(grid.shape)
    if len(shape) >= 3 and spans(shape[-2:], pixels):
        return
    got, area = f"shape {shape}", f"the {pixels[0]} x {pixels[1]} pixels that they cover"
    if len(shape) == 4 and shape[2] == shape[3]:
        return  # such as a model that squashes images to a square gives, whatever else would fit
    if len(shape) == 4 and spans(shape[1:3], pixels):
        raise InputError.of(
            name, got=got, expected=f"(B, C, h, w), of the aspect ratio of {area}",
            fix=f"The channels look last: pass {name}.movedim(-1, -3), or np.moveaxis({name}, -1, "
            "-3) of an array.",
        )  # fmt: skip
    if len(shape) == 4 and spans((shape[3], shape[2]), pixels):
        raise InputError.of(
            name, got=got, expected=f"(B, C, h, w), of the aspect ratio of {area}",
            fix=f"Height and width look swapped: pass {name}.swapaxes(-1, -2).",
        )  # fmt: skip
    readings = list(_read_as_tokens(name, shape, pixels))
    if readings:
        raise InputError.of(
            name, got=got, expected=f"(B, C, h, w), of the aspect ratio of {area}",
            fix=f"These look like {'; or like '.join(readings)}.",
        )  # fmt: skip


def is_turned(size: tuple[int, int], pixels: tuple[int, int]) -> bool:
    """Tell whether a size has the image's aspect ratio only with height and width swapped.

    >>> is_turned((8, 6), (300, 400)), is_turned((6, 8), (300, 400)), is_turned((6, 6), (300, 400))
    (True, False, False)
    """
    (height, width), (rows, columns) = size, pixels
    straight, turned = height * columns / (width * rows), height * rows / (width * columns)
    return abs(turned - 1) < 0.01 <= abs(straight - 1)


def refuse_turned(name: str, maps: Tensor, pixels: tuple[int, int]) -> None:
    """Refuse maps that have the image's aspect ratio only with height and width swapped.

    Args:
        name: what errors call them.
        maps: (..., H, W), on any grid that spans the image.
        pixels: (H, W) of the image, or of another grid that spans it.

    Raises:
        InputError: maps that look turned.
    """
    height, width = maps.shape[-2:]
    if is_turned((height, width), pixels):
        raise InputError.of(
            name,
            got=f"{height} x {width} pixels",
            expected=f"the aspect ratio of the image's {pixels[0]} x {pixels[1]}",
            fix="Height and width look swapped: pass them with .swapaxes(-1, -2), or, where they "
            "belong to a photograph before it was turned upright, make them anew.",
        )


def warn_of_aspect(name: str, grid: Tensor, pixels: tuple[int, int]) -> None:
    """Warn of patches that are not square in the image: it may not be what the model saw."""
    height, width = grid.shape[-2:]
    if not spans((height, width), pixels):
        warn(
            f"aspect of {name}",
            f"{name}: got a grid of {height} x {width} patches, which are {pixels[0] / height:.4g} "
            f"x {pixels[1] / width:.4g} pixels in an image of {pixels[0]} x {pixels[1]}. If the "
            "model saw this image squashed to a square, say so by "
            f"span=({pixels[0]}, {pixels[1]}); if it saw the image padded or cropped at the bottom "
            "and right, pass the size that it saw as span=.",
        )


def _read_as_tokens(name: str, shape: tuple[int, ...], pixels: tuple[int, int]) -> Iterator[str]:
    """Yield how to make a grid of the tokens that each of the last two axes may hold."""
    one_class = len(shape) == 2 or (len(shape) == 4 and shape[1] == 1)
    for axis in (-2, -1) if one_class else ():
        for extra in _EXTRA_TOKENS:
            grid = _find_grid(shape[axis] - extra, pixels)
            if grid is None:
                continue
            dropped = f"drop the first {extra} and " if extra else ""
            cut = f"[..., {extra}:{', :' * (axis == -2)}]" if extra else ""
            yield (
                f"{shape[axis]} tokens: {dropped}reshape to {grid[0]} x {grid[1]}, by torch."
                f"as_tensor({name}){cut}{'.mT' * (axis == -2)}.unflatten(-1, {grid})"
            )
            break


def _find_grid(tokens: int, pixels: tuple[int, int]) -> tuple[int, int] | None:
    """Return the grid of so many square patches that spans the pixels best, or None."""
    if tokens < _FEWEST_TOKENS:
        return None
    sides = [side for side in range(1, math.isqrt(tokens) + 1) if tokens % side == 0]
    grids = [grid for side in sides for grid in ((side, tokens // side), (tokens // side, side))]
    aspect = pixels[0] / pixels[1]
    misfit, best = min((abs(math.log(grid[0] / grid[1] / aspect)), grid) for grid in grids)
    # A small number makes a grid that nearly fits almost always.
    fits = spans(best, pixels) and (misfit < _CLOSE or tokens >= _MANY_TOKENS)
    return best if fits else None
