"""Estimate a call's memory before it starts."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import torch

from lpprop._core.errors import InputError

__all__ = ["STEP_BYTES", "available_bytes", "check_memory", "check_room"]

#: Peak bytes per pair of patches of a step on attention: two float64 matrices.
STEP_BYTES = 16


def check_memory(argument: str, patches: int, needed: int, device: torch.device) -> None:
    """Refuse work on N x N matrices that does not fit into memory, before it starts.

    Args:
        argument: the input that has N patches, for the error.
        patches: their number N.
        needed: bytes that the work adds at its peak.
        device: where it would run.

    Raises:
        InputError: the work needs more memory than is free, if that is known.
    """
    check_room(
        argument,
        f"{patches} patches, whose {patches} x {patches} matrices need",
        needed,
        device,
        "Use a coarser grid (lpprop.bilinear_upsample also makes grids smaller, "
        "lpprop.aggregate_attention does so for attention), or fewer items at once.",
    )


def check_room(argument: str, work: str, needed: int, device: torch.device, fix: str) -> None:
    """Refuse work that does not fit into memory, before it starts.

    Args:
        argument: the input that decides how much it is, for the error.
        work: what it is, for the error: "... need".
        needed: bytes that the work adds at its peak.
        device: where it would run.
        fix: what to do about it.

    Raises:
        InputError: the work needs more memory than is free, if that is known.
    """
    available = available_bytes(device)
    if available is not None and needed > available:
        raise InputError.of(
            argument,
            got=f"{work} {needed / 2**30:.3g} GiB",
            expected=f"at most the {available / 2**30:.3g} GiB that are free on {device}",
            fix=fix,
        )


def available_bytes(device: torch.device) -> int | None:
    """Return the bytes that are free, on CUDA and on Linux; None elsewhere.

    On Linux that is the least of what the machine, a container and a limit of the process leave.
    """
    if device.type == "cuda":
        unused, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return unused + cached
    found = re.search(r"MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"))
    free = [1024 * int(found[1])] if found else []
    # A container may have less than its machine; the file cache that it uses can be reclaimed.
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}").strip() for name in ("max", "current"))
    cache = re.search(r"^inactive_file (\d+)", _read("/sys/fs/cgroup/memory.stat"), re.MULTILINE)
    if limit.isdigit() and used.isdigit():
        free.append(int(limit) - int(used) + (int(cache[1]) if cache else 0))
    # RLIMIT_AS, which counts addresses; the first field of statm is their number in pages.
    space = re.search(r"^Max address space +(\d+)", _read("/proc/self/limits"), re.MULTILINE)
    pages = _read("/proc/self/statm").split()
    if space and pages:
        free.append(int(space[1]) - int(pages[0]) * mmap.PAGESIZE)
    return max(0, min(free)) if free else None


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
