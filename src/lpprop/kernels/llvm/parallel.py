"""Threads for compiled kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Each", "bands", "workers"]

_WORTH_THREADS = 2e6

#: Calls a function with each tuple of arguments, in several threads.
Each = Callable[[Callable[..., None], Iterable[tuple[Any, ...]]], None]


@contextmanager
def workers(work: float) -> Iterator[Each]:
    """Give a function that calls another with each of many arguments, in several threads.

    There are as many as PyTorch has, or one for little work, which is counted in multiplications.
    They end with the context: none is lost in a process that forks, and a worker of a DataLoader,
    where PyTorch has one thread, starts none.
    """
    threads = torch.get_num_threads()
    if threads == 1 or work < _WORTH_THREADS:
        yield _in_turn
        return
    with ThreadPoolExecutor(threads) as pool:

        def at_once(function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
            for _ in pool.map(lambda x: function(*x), arguments):
                pass

        yield at_once


def _in_turn(function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
    for x in arguments:
        function(*x)


def bands(height: int, pieces: int = 1) -> list[tuple[int, int]]:
    """Split rows into bands, of whose pieces there are about eight a thread."""
    count = min(height, max(1, -(-8 * torch.get_num_threads() // pieces)))
    edges = [height * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
