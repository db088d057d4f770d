"""Memory for compiled kernels, which is kept for the next call.

New pages take the system time to hand out. PyTorch keeps the memory of a GPU for the same reason;
here it is bounded, and `release` gives it back.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Borrowed", "kept_tensor", "release", "zeros"]

# What is kept at most, and what is too small to keep.
_KEPT_BYTES = 512 * 2**20
_SMALL_BYTES = 2**20
_LINE = 64  # bytes of a cache line

# Its methods are atomic, so that no lock is needed, which a fork could catch locked.
_kept: deque[NDArray[np.uint8]] = deque()


class Borrowed:
    """An array whose memory goes back when this object does; nothing may use the array longer."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, clear: bool) -> None:
        """Borrow an array of zeros, or of any values if it need not be clear."""
        size = math.prod(shape) * dtype.itemsize
        block = _found(size)
        if block is None:
            self._block = zeros((size,), np.dtype(np.uint8))
        else:
            self._block = block
            if clear:
                block[:size] = 0
        self.array = self._block[:size].view(dtype).reshape(shape)

    def __del__(self) -> None:
        """Keep the memory for the next."""
        block = self.__dict__.pop("_block", None)
        if block is not None and block.nbytes >= _SMALL_BYTES and _kept is not None:
            _kept.append(block)
            while sum(other.nbytes for other in tuple(_kept)) > _KEPT_BYTES:
                _kept.popleft()


def kept_tensor(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """Make a tensor of any values, whose memory goes back with the last tensor that shares it."""
    borrowed = Borrowed(shape, dtype, clear=False)
    array = borrowed.array.view()  # the storage of the tensors holds this very object
    weakref.finalize(array, _Held(borrowed)).atexit = False
    return torch.from_numpy(array)


class _Held:
    """Hold an object for as long as this one waits to be called."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __call__(self) -> None:
        """Do nothing: what is called is dropped, and what it held with it."""


def release() -> None:
    """Give the memory that is kept back to the system."""
    _kept.clear()


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make an array of zeros that starts where a cache line does, so that no vector lies on two."""
    count, line = math.prod(shape), _LINE // dtype.itemsize
    memory = np.zeros(count + line, dtype)  # in large pages, which PyTorch does not ask for
    start = -(memory.ctypes.data // dtype.itemsize) % line
    return memory[start : start + count].reshape(shape)


def _found(size: int) -> NDArray[np.uint8] | None:
    """Take a block that is large enough, and not much larger, from what is kept."""
    others = []
    try:
        while True:
            block = _kept.popleft()
            if size <= block.nbytes <= 2 * size:
                return block
            others.append(block)
    except IndexError:
        return None
    finally:
        _kept.extend(others)
