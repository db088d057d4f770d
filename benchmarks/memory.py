"""Peak memory of a competitor, from a fresh process.

Its inputs are made and the competitor warmed up on tiny inputs before the peak is reset: what
counts is what the call adds to the inputs, its output included. It is None where the system cannot
reset the peak.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from .work import Work


def peak_memory(
    build: Callable[[], Work], tiny: Callable[[], Work], name: str, device: str
) -> int | None:
    """Bytes that one call of the competitor `name` adds at its peak, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    threads = torch.get_num_threads()
    child = context.Process(target=_peak_in_child, args=(send, build, tiny, name, device, threads))
    with _returning_blocks():
        child.start()
    send.close()
    try:
        return receive.recv()
    except EOFError:
        raise RuntimeError(f"{name}: the process that measures its memory failed") from None
    finally:
        child.join()


@contextlib.contextmanager
def _returning_blocks() -> Iterator[None]:
    """Have glibc, in processes started within, give every large block back as soon as it is freed.

    What it would keep differs by a factor of two from run to run.
    """
    name = "MALLOC_MMAP_THRESHOLD_"
    if name in os.environ:
        yield
        return
    os.environ[name] = "65536"
    try:
        yield
    finally:
        del os.environ[name]


def _peak_in_child(send: Any, build: Any, tiny: Any, name: str, device: str, threads: int) -> None:
    torch.set_num_threads(threads)
    next(c for c in tiny().competitors if c.name == name).run()
    run = next(c for c in build().competitors if c.name == name).run
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        send.send(torch.cuda.max_memory_allocated() - before)
        return
    _release_free_memory()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak (VmHWM), see proc(5)
    except OSError:
        send.send(None)
        return
    before = _status("VmRSS")
    run()
    send.send(max(0, _status("VmHWM") - before))


def _release_free_memory() -> None:
    """Give the allocator's free pages back, or the call would reuse them and seem to need none."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise KeyError(field)
