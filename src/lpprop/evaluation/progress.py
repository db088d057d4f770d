"""The progress of a run: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import sys
import time

__all__ = ["LINE_SECONDS", "Progress"]

#: Seconds between two lines where there is no terminal, such as in a log file.
LINE_SECONDS = 60.0


class Progress:
    """Show how many images are done.

    Args:
        total: number of images to do.
        shown: True shows a bar and False nothing; None shows a bar on a terminal, and elsewhere a
            line every `LINE_SECONDS`.
    """

    def __init__(self, total: int, shown: bool | None) -> None:
        from tqdm import tqdm

        hidden = None if shown is None else not shown
        self._bar = tqdm(total=total, unit="image", file=sys.stderr, disable=hidden)
        self._lines = shown is None and self._bar.disable
        self.total, self.done = total, 0
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self) -> None:
        """Count an image."""
        self.done += 1
        self._bar.update()
        now = time.monotonic()
        if self._lines and now - self._last >= LINE_SECONDS:
            self._last = now
            spent = now - self._start
            left = spent / self.done * (self.total - self.done)
            print(
                f"lpprop: {self.done} of {self.total} images in {_minutes(spent)}, "
                f"about {_minutes(left)} left",
                file=sys.stderr,
                flush=True,
            )


def _minutes(seconds: float) -> str:
    """Write a time in minutes, or in hours and minutes.

    >>> _minutes(90), _minutes(5400)
    ('2 min', '1 h 30 min')
    """
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
