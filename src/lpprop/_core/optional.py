"""Imports that wait until they are needed, and those that may fail and say what to do then."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = ["import_cv2", "import_hint", "import_later"]


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


def import_later(package: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package (PEP 562), which imports what is asked for.

    What was asked for once is an attribute of the package from then on. Type checkers should not
    see this function, since they would take any attribute for one that exists.

    Args:
        package: the package's name.
        names: the module within the package that has each name, or "" for a module itself.

    >>> get = import_later("lpprop.viz", {"drawing": "", "overlay": "drawing"})
    >>> get("drawing"), get("overlay").__name__
    (<module 'lpprop.viz.drawing' from ...>, 'overlay')
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}",
                name=name, obj=sys.modules.get(package),
            )  # fmt: skip
        if not names[name]:
            return importlib.import_module(f"{package}.{name}")  # which makes it an attribute
        found = getattr(importlib.import_module(f"{package}.{names[name]}"), name)
        vars(sys.modules[package])[name] = found
        return found

    return get
