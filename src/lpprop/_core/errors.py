"""The one error and the one warning about input, which point at the caller."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lpprop._core.once import first_time

__all__ = ["InputError", "InputWarning", "collect_warnings", "warn"]


class InputError(ValueError):
    """An argument that cannot be used; the message names it and says what to do.

    >>> raise InputError.of("k", got="0", expected="an integer >= 1", fix="Pass k=400.")
    Traceback (most recent call last):
    lpprop.InputError: k: got 0, expected an integer >= 1. Pass k=400.
    """

    @classmethod
    def of(cls, argument: str, *, got: str, expected: str, fix: str) -> InputError:
        """Build the message in the form that all errors share."""
        return cls(f"{argument}: got {got}, expected {expected}. {fix}")


class InputWarning(UserWarning):
    """Input that can be used, but is probably not what was meant; the message says what to do.

    A call warns once per kind of doubt. To turn these warnings into errors:

    >>> import warnings, lpprop
    >>> warnings.simplefilter("error", lpprop.InputWarning)
    """


# The messages of each enclosing `collect_warnings`, the outermost first.
_blocks: ContextVar[tuple[list[str], ...]] = ContextVar("lpprop_warnings", default=())


def warn(kind: str, message: str) -> None:
    """Warn of doubtful input, once per kind and call.

    The warning points at the first line that is neither this package's nor PyTorch's.

    Args:
        kind: what is doubtful, in a word or two; a call warns once of each.
        message: which argument it is, what came, what it does, and what to do.
    """
    if not first_time(kind):
        return
    blocks = _blocks.get()
    known = any(message in collected for collected in blocks)
    for collected in blocks:
        if message not in collected:
            collected.append(message)
    if known:
        return
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, InputWarning, stacklevel=level)


@contextmanager
def collect_warnings(*, shown: bool = True) -> Iterator[list[str]]:
    """Gather the messages of `warn` within a block, so that they stand beside the result.

    Blocks may be nested: each gathers the messages within it, and the outermost shows each once.

    Args:
        shown: whether they are also shown as Python warnings, as elsewhere.
    """
    collected: list[str] = []
    token = _blocks.set((*_blocks.get(), collected))
    try:
        if shown:
            yield collected
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", InputWarning)
                yield collected
    finally:
        _blocks.reset(token)


def _is_inside(module: str) -> bool:
    return module.partition(".")[0] in ("lpprop", "torch", "contextlib", "functools")


# Tracebacks show the names under which users catch them.
InputError.__module__ = InputWarning.__module__ = "lpprop"
