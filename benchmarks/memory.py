"""Peak memory of a competitor, measured in a fresh process.

The process makes the inputs and warms the competitor up on tiny ones before it resets the peak:
what counts is what one call adds to the inputs, its output included.
"""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterator
from typing import Any

import torch

from lpprop._core.measure import peak_memory

from .work import Work


def peak_memory_of(
    name: str, build: Callable[[], Work], tiny: Callable[[], Work], device: str
) -> int | None:
    """Bytes that one call of a competitor adds at its peak; None where they cannot be measured."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    threads = torch.get_num_threads()
    child = context.Process(target=_send_peak, args=(send, name, build, tiny, device, threads))
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
    """Have glibc return every large block as soon as it is freed, in processes started within.

    Otherwise the blocks that it keeps differ by a factor of two from run to run.
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


def _send_peak(send: Any, name: str, build: Any, tiny: Any, device: str, threads: int) -> None:
    torch.set_num_threads(threads)
    next(c for c in tiny().competitors if c.name == name).run()
    run = next(c for c in build().competitors if c.name == name).run
    send.send(peak_memory(run, torch.device(device)))
