"""A limit of time that also holds for work which does not look at the clock."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lpprop._core.errors import InputError

__all__ = ["TimeIsUp", "deadline"]


# Not an Exception, so that no "except Exception" on the way holds it up.
class TimeIsUp(BaseException):
    """What a job is interrupted by."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Interrupt the block when its time is up.

    Python ends no thread, but it can raise an exception in one, between two of its instructions.
    An operation of PyTorch that is under way is finished first: what bounds that one is the limit
    on the size of images.

    Args:
        seconds: the limit, above 0.

    Raises:
        InputError: the block took longer.
        TimeIsUp: it took exactly as long, in rare cases.

    >>> with deadline(0.05):
    ...     while True:
    ...         pass
    Traceback (most recent call last):
    lpprop.InputError: work: got more than 0.05 seconds of it, expected less. Use a smaller ...
    """
    thread, lock, ended = threading.get_ident(), threading.Lock(), False

    def interrupt() -> None:
        with lock:
            if not ended:
                _raise_in(thread, TimeIsUp)

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except TimeIsUp:
        raise InputError.of(
            "work",
            got=f"more than {seconds:g} seconds of it",
            expected="less",
            fix="Use a smaller image, fewer classes, or another method.",
        ) from None
    finally:
        with lock:
            ended = True
        timer.cancel()
        _raise_in(thread, None)  # an exception that is on its way would hit what comes after


def _raise_in(thread: int, exception: type[BaseException] | None) -> None:
    """Raise an exception in a thread; None takes one back that has not come yet."""
    raised = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), raised)
