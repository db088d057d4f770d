"""What all charts share: matplotlib when it is needed, panels and colours.

A `matplotlib.figure.Figure` is made without pyplot: it opens no window, needs no backend, and is
freed with its last reference.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from lpprop.viz.palettes import colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BETTER", "MARKERS", "WORSE", "Drawn", "colour", "new_figure"]

MARKERS = "osD^vPX<>*"


class Drawn(ABC):
    """Data with a chart, which notebooks show."""

    @abstractmethod
    def figure(self) -> Figure:
        """Draw it; `figure().savefig(path)` writes it.

        Raises:
            ImportError: matplotlib is not installed.
        """

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.figure().savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Return an empty figure, its sides in inches, and its panels, row by row."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("figures need an extra: pip install 'lpprop[eval]'") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(True, color="0.9", linewidth=0.8)
        axis.set_axisbelow(True)
    return figure, list(axes)


def colour(number: int) -> tuple[float, ...]:
    """Return a colour of the default palette as matplotlib takes it."""
    return tuple((colours("default", number + 1)[number] / 255).tolist())


BETTER, WORSE = colour(0), colour(5)  # blue, vermilion
