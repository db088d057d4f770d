"""The result of a comparison, and the ways to look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lpprop.comparison import tables
from lpprop.comparison.rows import ComparisonData

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Comparison"]


class Comparison(ComparisonData):
    """What several methods made of one image; `lpprop.compare` returns it.

    A notebook shows it as a table and a figure; printed, it is the table.

    Attributes:
        rows: a `Row` per method, in the order given.
        labels: (H, W) class indices by the name of each method that ran.
        start: (H, W) labels of the logits, upsampled bilinearly.
        image: the image, at the labels' size, or None.
        gt: (H, W) true labels, or None.
        class_names: a name per class.
        palette: the figure's colours.
        ignore_index: marks pixels of gt that do not count.
        warnings: what is doubtful about the input of all rows, such as gt; each `Row` has its own.
        regions: (H, W) the number of the region that each pixel is in, of masks that overlap the
            smallest one, -1 for none; None without regions, or where each step finds its own.

    >>> import torch
    >>> from lpprop.comparison import compare
    >>> comparison = compare(torch.rand(5, 6, 6), size=(96, 96), methods=["bilinear"])
    >>> comparison.rows[0].changed
    0.0
    >>> comparison.agreement
    array([[1.]])
    >>> comparison.to_csv().splitlines()[0][:36]
    'method,seconds,memory_bytes,changed,'
    """

    def figure(
        self, *, errors: bool = False, columns: int = 5, side: int = 480, note: str = ""
    ) -> Image:
        """Draw the labels of each method over the image, and enlarge where the methods differ most.

        Args:
            errors: whether to add maps of the pixels that are labelled wrongly; needs gt.
            columns: the most pictures in a row.
            side: pixels of the longer side of each picture.
            note: a line below the legend.

        Returns:
            An RGB image.

        Raises:
            InputError: error maps without gt, or numbers out of range.
        """
        from lpprop.comparison.figure import draw  # only figures need PIL

        return draw(self, errors=errors, columns=columns, side=side, note=note)

    def to_markdown(self) -> str:
        """Return the table, and that of the agreement if there are several methods."""
        return tables.markdown(self)

    def to_csv(self) -> str:
        """Return a line per method: seconds, bytes, shares in [0, 1], and its own warnings."""
        return tables.csv_text(self)

    def __repr__(self) -> str:
        """Return the table as text."""
        return tables.text(self)

    def _repr_html_(self) -> str:
        return tables.html(self, self.figure(side=320))  # small, as the notebook stores it
