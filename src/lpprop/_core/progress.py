"""Progress of whatever takes longer than a second or two: the one bar of the package.

It is a bar on a terminal and a widget in a notebook, of tqdm's kind. Elsewhere, such as in a log
file, it is nothing, or a line per minute for work that takes hours.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

__all__ = ["LINE_SECONDS", "Progress", "hide_progress", "in_notebook", "track"]

_T = TypeVar("_T")

#: Seconds between two lines where there is neither a terminal nor a notebook.
LINE_SECONDS = 60.0

# Seconds before a bar appears by itself: whoever waits less needs none.
_DELAY = 1.0

# Seconds between two pictures of a bar.
_INTERVAL = 0.1

# How many are open, shown or not: only the outermost shows, so that work within work has no bar.
_open = 0


class Progress:
    """Show how many images are done, or how many of another unit.

        with Progress(len(images), unit="image") as progress:
            for image in images:
                ...
                progress.update()

    Work within work shows nothing: neither within another `Progress`, even one that is hidden, nor
    within a bar of tqdm that the caller has. A single step has no bar, but its parts may have one.

    Args:
        total: number of images to do; None if it is not known.
        shown: True shows a bar that stays, and False nothing. None shows one that appears after a
            second and goes at the end, on a terminal and in a notebook alone.
        unit: what is counted, in the singular.
        logged: whether None writes a line every `LINE_SECONDS` where there is neither.
    """

    def __init__(
        self,
        total: int | None,
        shown: bool | None = None,
        unit: str = "image",
        *,
        logged: bool = False,
    ) -> None:
        self.total, self.done, self.unit = total, 0, unit
        self._shown, self._logged = shown, logged
        self._bar: Any = None

    def __enter__(self) -> Progress:
        global _open
        self._start = self._last = time.monotonic()
        outermost = _open == 0
        self._counts = self._shown is not None or self.total is None or self.total > 1
        _open += self._counts
        notebook = in_notebook()
        # A process may have no stderr.
        watched = notebook or (sys.stderr is not None and sys.stderr.isatty())
        shown = watched if self._shown is None else self._shown and sys.stderr is not None
        self._logged &= self._shown is None and not watched and sys.stderr is not None and outermost
        if shown and outermost and self._counts:
            tqdm = _import_tqdm()
            # What a notebook shows of stderr looks like an error.
            file = sys.stdout if notebook else sys.stderr
            self._bar = tqdm(
                total=self.total, unit=self.unit, file=file, leave=bool(self._shown),
                delay=0 if self._shown else _DELAY, mininterval=_INTERVAL,
                disable=not self._shown and _has_bar(tqdm),
            )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        global _open
        _open -= self._counts
        if self._bar is not None:
            self._bar.close()

    def describe(self, what: str) -> None:
        """Say before the bar what is being done."""
        if self._bar is not None:
            self._bar.set_description(what, refresh=False)

    def update(self, note: str = "", *, count: int = 1) -> None:
        """Count one more, or several, with a note beside the bar."""
        self.done += count
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(count)
        now = time.monotonic()
        if self._logged and now - self._last >= LINE_SECONDS:
            self._last = now
            print(
                f"lpprop: {self._line(now - self._start)}{f'; {note}' if note else ''}",
                file=sys.stderr,
                flush=True,
            )

    def _line(self, spent: float) -> str:
        said = f"{self.done} {self.unit}s in {_minutes(spent)}"
        if self.total is not None:
            left = spent / self.done * (self.total - self.done)
            said = f"{self.done} of {self.total} {self.unit}s in {_minutes(spent)}, "
            said += f"about {_minutes(left)} left"
        return said


def track(
    items: Iterable[_T], shown: bool | None = None, unit: str = "image", *, logged: bool = False
) -> Iterator[_T]:
    """Yield the items, and show how many have been worked on; see `Progress`.

    >>> [item for item in track("ab")]
    ['a', 'b']
    """
    total = len(items) if isinstance(items, Sized) else None
    with Progress(total, shown, unit, logged=logged) as progress:
        for item in items:
            yield item
            progress.update()


def hide_progress() -> None:
    """Show no progress from here on, in a process that works for another one."""
    global _open
    _open += 1


def in_notebook() -> bool:
    """Tell whether this process is a notebook's kernel.

    >>> in_notebook()
    False
    """
    # Nobody runs a notebook's kernel without having imported it.
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _import_tqdm() -> Any:
    """Return the bar for this place: a widget in a notebook that has ipywidgets, else of text."""
    with warnings.catch_warnings():
        # tqdm.auto warns in a notebook without ipywidgets, where the bar of text serves as well.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    return tqdm


def _has_bar(tqdm: Any) -> bool:
    """Tell whether the caller shows a bar of tqdm already."""
    return bool(getattr(tqdm, "_instances", ()))


def _minutes(seconds: float) -> str:
    """Write a time in minutes, or in hours and minutes.

    >>> _minutes(90), _minutes(5400)
    ('2 min', '1 h 30 min')
    """
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
