"""What a comparison found, as plain data: tables and figures are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

    from lpprop.viz.palettes import Palette

__all__ = ["ComparisonData", "Row"]


class Row(NamedTuple):
    """What one method cost, changed and got right.

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
        skipped: why the method did not run; empty if it did.
        warnings: what is doubtful about its input, as `lpprop.InputWarning` says it.
    """

    method: str
    seconds: float | None = None
    memory: int | None = None
    changed: float | None = None
    miou: float | None = None
    boundary_iou: float | None = None
    skipped: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False, eq=False)
class ComparisonData:
    """The data of a `Comparison`, whose docstring explains them."""

    rows: list[Row]
    labels: dict[str, npt.NDArray[np.int64]]
    start: npt.NDArray[np.int64]
    image: Image | None
    gt: npt.NDArray[np.int64] | None
    class_names: list[str]
    palette: Palette
    ignore_index: int
    warnings: tuple[str, ...] = ()
    regions: npt.NDArray[np.int64] | None = None

    @property
    def agreement(self) -> npt.NDArray[np.float64]:
        """Share of the pixels on which each pair of the methods that ran agrees, (n, n)."""
        every = list(self.labels.values())
        return np.array([[float((a == b).mean()) for b in every] for a in every])
