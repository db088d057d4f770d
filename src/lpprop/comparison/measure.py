"""What a method costs: its time, and the memory that it adds at its peak."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lpprop._core.measure import peak_memory, time_call

__all__ = ["Measured", "count_runs", "measure"]


class Measured(NamedTuple):
    """A call's result and what it cost.

    Attributes:
        result: what the call returned.
        seconds: the median of its repeats.
        memory: bytes that it added at its peak, its result included; None where that cannot be
            measured.
    """

    result: Tensor
    seconds: float
    memory: int | None


def count_runs(repeats: int) -> int:
    """Return how often `measure` calls: to warm up, for the memory, and for the time."""
    return 2 + repeats


def measure(
    run: Callable[[], Tensor], device: torch.device, repeats: int, tick: Callable[[], object]
) -> Measured:
    """Call a function to warm up, to measure its memory, and `repeats` times to time it.

    Args:
        run: the call.
        device: where it computes.
        repeats: how often it is timed.
        tick: called after each call.
    """
    result = run()
    tick()
    memory = peak_memory(run, device)
    tick()
    seconds = []
    for _ in range(repeats):
        seconds.append(time_call(run, device)[1])
        tick()
    return Measured(result, statistics.median(seconds), memory)
