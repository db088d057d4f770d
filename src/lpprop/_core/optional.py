"""Imports that may fail: they are made where a package is used, and say what to do then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["import_cv2", "import_hint"]


@contextmanager
def import_hint(hint: str) -> Iterator[None]:
    """Turn a failing import inside into one line that says what to do.

    Args:
        hint: what cannot be imported, and what to run.

    Raises:
        ImportError: the hint, and the reason in brackets.

    >>> with import_hint("The example cannot run: pip install nothing-real"):
    ...     import nothing_real
    Traceback (most recent call last):
    ImportError: The example cannot run: pip install nothing-real (No module named 'nothing_real')
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{hint} ({error})") from error


def import_cv2() -> Any:
    """Return OpenCV's module.

    Its wheel opencv-python loads libGL, which a server without a display may lack. The headless
    wheel holds the same module without windows, and can be installed over the other one.

    Raises:
        ImportError: OpenCV is absent, or a library that it loads is.
    """
    with import_hint("OpenCV cannot be imported: pip install opencv-python-headless"):
        import cv2
    return cv2
