"""What a call costs: its time, and the memory that it adds at its peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Measured", "measured", "runs"]

_STATUS, _RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Measured(NamedTuple):
    """A call's result and what it cost.

    Attributes:
        result: what it returned.
        seconds: the median of its repeats.
        memory: bytes that it added at its peak, its result included; None where that cannot be
            measured.
    """

    result: Tensor
    seconds: float
    memory: int | None


def runs(repeats: int) -> int:
    """Return how often `measured` calls: to warm up, for the memory, and for the time."""
    return 2 + repeats


def measured(
    run: Callable[[], Tensor], device: torch.device, repeats: int, tick: Callable[[], object]
) -> Measured:
    """Call a function until its time is known.

    On CUDA memory is what torch's allocator handed out. On a CPU under Linux it is the growth of
    the process's resident set, after the allocator's free pages went back to the system: it counts
    what is allocated outside torch as well, and varies by a tenth or two from run to run. Other
    devices and systems have no peak that could be reset.

    Args:
        run: the call.
        device: where it computes; it is synchronised before and after each call.
        repeats: how often it is timed, after a call to warm up and one for the memory.
        tick: called after each call.
    """
    result = run()
    tick()
    memory = _memory(run, device)
    tick()
    times = []
    for _ in range(repeats):
        _synchronise(device)
        start = time.perf_counter()
        run()
        _synchronise(device)
        times.append(time.perf_counter() - start)
        tick()
    return Measured(result, statistics.median(times), memory)


def _memory(run: Callable[[], Tensor], device: torch.device) -> int | None:
    if device.type == "cuda":
        _synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        _synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    resets = device.type == "cpu" and _reset_peak()
    before = _resident("VmRSS") if resets else 0
    run()
    return max(0, _resident("VmHWM") - before) if resets else None


def _reset_peak() -> bool:
    """Forget the peak of the resident set (proc(5)), and tell whether that was possible."""
    gc.collect()
    # Free pages that the allocator keeps would be taken again, and the call seem to need none.
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _RESET_PEAK.write_text("5")
    except OSError:
        return False
    return True


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
