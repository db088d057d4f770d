"""How images are split into programs: a tile of pixels, one per thread, and a group of classes.

A program keeps all classes of its group in registers, so that it reads a weight once for all of
them. A group has a power of two of classes. Where they do not fill the last group, it repeats the
last class without storing it, so the loops need no mask.

Kernels are `no_type_check`, since their types are Triton's. Sizes of images are not specialised
(`do_not_specialize`): a width that 16 divides would align some neighbours of a row and not others,
and threads would have to exchange what they read.
"""

import triton

__all__ = ["LAUNCH", "TILE", "columns_of", "count_tiles", "group_of"]

_WARPS = 4
TILE = 32 * _WARPS  # pixels per program
#: Options of every launch. Multiply-adds are the work, and the default for fusing them changes
#: between versions of Triton.
LAUNCH = {"num_warps": _WARPS, "enable_fp_fusion": True}


def group_of(classes: int, most: int) -> int:
    """Return the size of a group of classes, a power of two of at most `most`."""
    return min(most, int(triton.next_power_of_2(classes)))


def columns_of(width: int) -> int:
    """Return the columns of a tile: a warp lies along a row, unless the image is narrower."""
    return min(32, int(triton.next_power_of_2(width)))


def count_tiles(height: int, width: int) -> int:
    """Return the number of tiles of an image."""
    columns = columns_of(width)
    return int(triton.cdiv(height, TILE // columns) * triton.cdiv(width, columns))
