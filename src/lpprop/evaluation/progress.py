"""The progress of a run: a bar on a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import sys
import time

__all__ = ["LINE_SECONDS", "Progress"]

#: Seconds between two lines where there is no terminal, such as in a log file.
LINE_SECONDS = 60.0


class Progress:
    """Show how many images are done, or how many of another unit.

    Args:
        total: number of images to do; None if it is not known.
        shown: True shows a bar and False nothing; None shows a bar on a terminal, and elsewhere a
            line every `LINE_SECONDS`.
        unit: what is counted, in the singular.
    """

    def __init__(self, total: int | None, shown: bool | None, unit: str = "image") -> None:
        from tqdm import tqdm

        hidden = None if shown is None else not shown
        self._bar = tqdm(total=total, unit=unit, file=sys.stderr, disable=hidden)
        self._lines = shown is None and self._bar.disable
        self.total, self.done, self.unit = total, 0, unit
        self._start = self._last = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, note: str = "") -> None:
        """Count one more, with a note beside the bar."""
        self.done += 1
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update()
        now = time.monotonic()
        if self._lines and now - self._last >= LINE_SECONDS:
            self._last = now
            spent = now - self._start
            said = f"{self.done} {self.unit}s in {_minutes(spent)}"
            if self.total is not None:
                left = spent / self.done * (self.total - self.done)
                said = f"{self.done} of {self.total} {self.unit}s in {_minutes(spent)}, "
                said += f"about {_minutes(left)} left"
            print(
                f"lpprop: {said}{f'; {note}' if note else ''}",
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
