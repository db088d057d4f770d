"""How images are split into programs: a tile of pixels, one per thread, and a group of classes.

A program keeps all classes of its group in registers, so that it reads a weight once for all of
them. A group has a power of two of classes. Where they do not fill the last group, it repeats the
last class without storing it, so the loops need no mask.

Everything that may be tuned to a GPU is in `Tuning`, and nowhere else.

Kernels are `no_type_check`, since their types are Triton's. Sizes of images are not specialised
(`do_not_specialize`): a width that 16 divides would align some neighbours of a row and not others,
and threads would have to exchange what they read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import triton

__all__ = ["SPACE", "Tuning", "columns_of", "count_tiles", "group_of", "tuned", "tuning"]


@dataclass(frozen=True)
class Tuning:
    """What may differ between GPUs: all are powers of two but `stages`, and none changes the result
    beyond rounding.

    Attributes:
        warps: of a program on a tile, of 32 pixels each.
        stages: loads that a loop may have under way, in compilers that overlap such loops.
        product_classes: most classes of a group in the product; few, since 21 classes then fill 24
            places and not 32.
        upsampling_classes: most classes of a group in the upsampling: more than in a product, since
            each group computes the weights anew.
        vector: pixels per program that updates vectors.
        partials: partial sums that are read at a time.
        sum_warps: of a program that adds partial sums.
    """

    warps: int = 4
    stages: int = 3
    product_classes: int = 8
    upsampling_classes: int = 16
    vector: int = 512
    partials: int = 1024
    sum_warps: int = 8

    @property
    def tile(self) -> int:
        """Pixels per program."""
        return 32 * self.warps

    @property
    def launch(self) -> dict[str, Any]:
        """Options of every launch.

        Multiply-adds are the work, and the default for fusing them changes between versions of
        Triton.
        """
        return {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}


#: The values that are worth trying, by the field: `make gpu` tries them.
SPACE: dict[str, tuple[int, ...]] = {
    "warps": (2, 4, 8),
    "stages": (1, 3),
    "product_classes": (4, 8, 16, 32),
    "upsampling_classes": (8, 16, 32),
    "vector": (256, 512, 1024, 2048),
    "partials": (512, 1024, 2048),
    "sum_warps": (4, 8),
}

_tuning: ContextVar[Tuning] = ContextVar("lpprop_triton_tuning")
_DEFAULT = Tuning()


def tuning() -> Tuning:
    """Return what the next launch takes."""
    return _tuning.get(_DEFAULT)


@contextmanager
def tuned(choice: Tuning) -> Iterator[None]:
    """Launch with another choice within a block."""
    token = _tuning.set(choice)
    try:
        yield
    finally:
        _tuning.reset(token)


def group_of(classes: int, most: int) -> int:
    """Return the size of a group of classes, a power of two of at most `most`."""
    return min(most, int(triton.next_power_of_2(classes)))


def columns_of(width: int) -> int:
    """Return the columns of a tile: a warp lies along a row, unless the image is narrower."""
    return min(32, int(triton.next_power_of_2(width)))


def count_tiles(height: int, width: int, tile: int) -> int:
    """Return the number of tiles of an image."""
    columns = columns_of(width)
    return int(triton.cdiv(height, tile // columns) * triton.cdiv(width, columns))
