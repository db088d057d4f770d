"""Measure a call: its time by a synchronised clock, and the memory that it adds at its peak."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

__all__ = ["Measured", "count_runs", "measure", "peak_memory", "synchronise", "time_call"]

_T = TypeVar("_T")

_STATUS, _RESET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Measured(NamedTuple):
    """A call's result and what it cost.

    Attributes:
        result: what the call returned.
        seconds: the median of its repeats.
        memory: bytes that it adds at its peak, its result included; None if that cannot be
            measured.
    """

    result: Tensor
    seconds: float
    memory: int | None


def count_runs(repeats: int) -> int:
    """Return how many calls `measure` makes: for warm-up, for memory and for time."""
    return 2 + repeats


def measure(
    call: Callable[[], Tensor], device: torch.device, repeats: int, tick: Callable[[], object]
) -> Measured:
    """Call a function to warm up, to measure its memory, and `repeats` times to time it.

    Args:
        call: the function.
        device: where it computes.
        repeats: how often it is timed.
        tick: called after each call.
    """
    result = call()
    tick()
    memory = peak_memory(call, device)
    tick()
    seconds = []
    for _ in range(repeats):
        seconds.append(time_call(call, device)[1])
        tick()
    return Measured(result, statistics.median(seconds), memory)


def synchronise(device: torch.device | None = None) -> None:
    """Wait for the pending work of a device; of the accelerator in use if None."""
    if device is None:
        cuda, mps = torch.cuda.is_initialized(), torch.backends.mps.is_available()
    else:
        cuda, mps = device.type == "cuda", device.type == "mps"
    if cuda:
        torch.cuda.synchronize(device)
    if mps:
        torch.mps.synchronize()


def time_call(call: Callable[[], _T], device: torch.device | None = None) -> tuple[_T, float]:
    """Return a call's result and its seconds; the clock is read when the device has finished."""
    synchronise(device)
    start = time.perf_counter()
    result = call()
    synchronise(device)
    return result, time.perf_counter() - start


def peak_memory(call: Callable[[], object], device: torch.device) -> int | None:
    """Return the bytes that a call adds at its peak, its result included.

    On CUDA torch's allocator counts them. On a CPU under Linux they are the growth of the process's
    resident set, after the allocator has given its free pages back to the system: this counts what
    is allocated outside torch as well, and varies by a tenth or two from run to run. Other devices
    and systems cannot reset their peak, and the result is None.
    """
    if device.type == "cuda":
        synchronise(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    if device.type != "cpu" or not _reset_peak():
        return None
    before = _resident_bytes("VmRSS")
    call()
    return max(0, _resident_bytes("VmHWM") - before)


def _reset_peak() -> bool:
    """Reset the peak of the resident set (proc(5)); return whether that was possible."""
    gc.collect()
    # Otherwise the call would reuse free pages of the allocator, and seem to need no memory.
    with contextlib.suppress(OSError, AttributeError):  # only glibc has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _RESET_PEAK.write_text("5")
    except OSError:
        return False
    return True


def _resident_bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    assert found is not None
    return 1024 * int(found[1])
