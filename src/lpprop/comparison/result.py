"""The result of a comparison: rows, labels, and the ways to look at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lpprop.comparison import tables

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

    from lpprop.viz.palettes import Palette

__all__ = ["Comparison", "Row"]


class Row(NamedTuple):
    """One method.

    Attributes:
        method: its name.
        seconds: the median time of a call.
        memory: bytes that a call adds at its peak: on CUDA those that torch hands out, on a CPU
            under Linux the growth of the process; None elsewhere.
        changed: share of the pixels whose label differs from that of the logits, upsampled
            bilinearly.
        miou: mean IoU over the classes of the labels and the ground truth, in [0, 1]; None without
            ground truth.
        boundary_iou: mean Boundary IoU, as miou.
        skipped: why the method did not run; empty where it did.
    """

    method: str
    seconds: float | None = None
    memory: int | None = None
    changed: float | None = None
    miou: float | None = None
    boundary_iou: float | None = None
    skipped: str = ""


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """What several methods made of one image; `lpprop.compare` returns it.

    In a notebook it shows itself as a table and a figure; its text is the table.

    Attributes:
        rows: one for each method, in the order given.
        labels: (H, W) class indices by the name of each method that ran.
        start: (H, W) labels of the logits, upsampled bilinearly.
        image: the image, of the labels' size, or None.
        gt: (H, W) true labels, or None.
        class_names: a name for each class.
        palette: the figure's colours.
        ignore_index: marks pixels of gt that do not count.

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

    rows: list[Row]
    labels: dict[str, npt.NDArray[np.int64]]
    start: npt.NDArray[np.int64]
    image: Image | None
    gt: npt.NDArray[np.int64] | None
    class_names: list[str]
    palette: Palette
    ignore_index: int

    @property
    def agreement(self) -> npt.NDArray[np.float64]:
        """Share of the pixels on which each two of the methods that ran agree, (n, n)."""
        every = list(self.labels.values())
        return np.array([[float((a == b).mean()) for b in every] for a in every])

    def figure(self, *, errors: bool = False, columns: int = 5, side: int = 480) -> Image:
        """Draw the labels of each method over the image, and enlarge where the methods differ most.

        Args:
            errors: whether to add maps of the pixels that are labelled wrongly; needs gt.
            columns: pictures a row at most.
            side: pixels of the longer side of each picture.

        Returns:
            An RGB image.

        Raises:
            InputError: error maps without gt, or numbers out of range.
        """
        from lpprop.comparison.figure import draw

        return draw(self, errors=errors, columns=columns, side=side)

    def to_markdown(self) -> str:
        """Return the table, and that of the agreement where there are several methods."""
        return tables.markdown(self)

    def to_csv(self) -> str:
        """Return a line for each method: seconds, bytes, and shares in [0, 1]."""
        return tables.csv_text(self)

    def __repr__(self) -> str:
        """Return the table as text."""
        return tables.text(self)

    def _repr_html_(self) -> str:
        return tables.html(self, self.figure(side=320))  # it is stored in the notebook
