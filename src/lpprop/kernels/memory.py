"""A pool of memory for results of a CPU, and for what compiled kernels need meanwhile.

The system takes time to hand out new pages. So blocks go back to a bounded pool, as PyTorch keeps
the memory of a GPU; `release` empties the pool.
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

__all__ = ["Borrowed", "borrow_tensor", "pooled_bytes", "release", "zeros"]

_POOL_BYTES = 512 * 2**20  # the most that the pool holds
_SMALL_BYTES = 2**20  # blocks below this are not worth keeping
_LINE = 64  # bytes per cache line

# A deque's methods are atomic, so the pool needs no lock, which a fork could catch held.
_pool: deque[NDArray[np.uint8]] = deque()


class Borrowed:
    """An array from the pool. Its memory goes back with this object: nothing may use it longer."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, clear: bool) -> None:
        """Borrow an array: of zeros if `clear`, else of any values."""
        size = math.prod(shape) * dtype.itemsize
        block = _take(size)
        if block is None:
            self._block = zeros((size,), np.dtype(np.uint8))
        else:
            self._block = block
            if clear:
                block[:size] = 0
        self.array = self._block[:size].view(dtype).reshape(shape)

    def __del__(self) -> None:
        """Return the memory to the pool."""
        block = self.__dict__.pop("_block", None)
        if block is not None and block.nbytes >= _SMALL_BYTES and _pool is not None:
            _pool.append(block)
            while pooled_bytes() > _POOL_BYTES:
                _pool.popleft()


def borrow_tensor(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Tensor:
    """Make a tensor of any values, whose memory goes back with the last tensor that shares it."""
    borrowed = Borrowed(shape, dtype, clear=False)
    array = borrowed.array.view()  # the tensors' storage holds this very object
    weakref.finalize(array, _KeepAlive(borrowed)).atexit = False
    return torch.from_numpy(array)


class _KeepAlive:
    """A finaliser that does nothing but keep `held` alive until it is called and dropped."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __call__(self) -> None:
        pass


def pooled_bytes() -> int:
    """Return the size of what the pool holds."""
    return sum(block.nbytes for block in tuple(_pool))


def release() -> None:
    """Give the pool's memory back to the system."""
    _pool.clear()


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Make an array of zeros that starts at a cache line, so that no vector straddles two."""
    count, line = math.prod(shape), _LINE // dtype.itemsize
    memory = np.zeros(count + line, dtype)  # NumPy asks for huge pages; PyTorch does not
    start = -(memory.ctypes.data // dtype.itemsize) % line
    return memory[start : start + count].reshape(shape)


def _take(size: int) -> NDArray[np.uint8] | None:
    """Take the smallest block out of the pool that is large enough, and not much larger."""
    fitting = [block for block in tuple(_pool) if size <= block.nbytes <= 2 * size]
    if not fitting:
        return None
    best, others = min(fitting, key=lambda block: block.nbytes), []
    try:
        while True:
            block = _pool.popleft()
            if block is best:
                return block
            others.append(block)
    except IndexError:  # another thread has taken it
        return None
    finally:
        _pool.extend(others)
