"""Threads for compiled kernels."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["ForEach", "bands", "workers"]

_WORTH_THREADS = 2e6  # multiplications

#: Calls a function with each tuple of arguments.
ForEach = Callable[[Callable[..., None], Iterable[tuple[Any, ...]]], None]


@contextmanager
def workers(work: float) -> Iterator[ForEach]:
    """Give a `ForEach` that shares its calls among threads.

    There are as many threads as PyTorch has, or one where the work, in multiplications, is little.
    They end with the context: a process that forks loses none, and a worker of a DataLoader, where
    PyTorch has one thread, starts none.
    """
    threads = torch.get_num_threads()
    if threads == 1 or work < _WORTH_THREADS:
        yield _call_in_order
        return
    with ThreadPoolExecutor(threads) as pool:

        def call_in_threads(
            function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]
        ) -> None:
            for _ in pool.map(lambda x: function(*x), arguments):
                pass

        yield call_in_threads


def _call_in_order(function: Callable[..., None], arguments: Iterable[tuple[Any, ...]]) -> None:
    for x in arguments:
        function(*x)


def bands(height: int, pieces: int = 1) -> list[tuple[int, int]]:
    """Split rows into bands of `pieces` pieces each, about eight pieces per thread."""
    count = min(height, max(1, -(-8 * torch.get_num_threads() // pieces)))
    edges = [height * i // count for i in range(count + 1)]
    return list(itertools.pairwise(edges))
