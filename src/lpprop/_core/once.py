"""What is said once per call, such as a kind of warning."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["first_time", "remember"]

_known: ContextVar[set[str] | None] = ContextVar("lpprop_warned", default=None)


@contextmanager
def remember() -> Iterator[None]:
    """Remember within a block what came for the first time."""
    token = _known.set(set())
    try:
        yield
    finally:
        _known.reset(token)


def first_time(kind: str) -> bool:
    """Tell whether something comes for the first time in this call; always, outside of a call.

    >>> with remember():
    ...     first_time("scale"), first_time("scale")
    (True, False)
    """
    known = _known.get()
    if known is None:
        return True
    new = kind not in known
    known.add(kind)
    return new
