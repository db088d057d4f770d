"""The figure of a comparison: labels over the image, and where they differ most, enlarged."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from lpprop._core.errors import InputError
from lpprop._core.options import check_boolean, check_integer
from lpprop.viz.drawing import ERROR_KEYS, borders, cut_labels, error_map, framed, keys, overlay
from lpprop.viz.palettes import named_colours
from lpprop.viz.sheets import Cell, sheet

if TYPE_CHECKING:
    import numpy.typing as npt

    from lpprop.comparison.rows import ComparisonData, Row
    from lpprop.viz.sheets import Key

    Box = tuple[int, int, int, int]

__all__ = ["differing_box", "draw"]

# Side of the enlarged region, as a share of the image's.
_REGION = 0.3


def draw(
    data: ComparisonData, *, errors: bool, columns: int, side: int, note: str = ""
) -> Image.Image:
    """Draw the figure; see `Comparison.figure`."""
    errors = check_boolean("errors", errors)
    columns, side = check_integer("columns", columns), check_integer("side", side, low=64)
    if errors and data.gt is None:
        raise InputError.of(
            "errors", got="True", expected="False without gt", fix="Pass gt= to compare."
        )
    painter = _Painter(data, side, differing_box(data), errors)
    cells = painter.inputs() + [painter.method(row) for row in data.rows if not row.skipped]
    return sheet(cells, painter.legend(), note, columns=columns, unit=max(6, side // 40))


def differing_box(data: ComparisonData) -> Box | None:
    """Find the region where the methods differ most; for a single one, from the start.

    Returns:
        y1, x1, y2, x2 (ends excluded), of the image's shape; None if all are alike.
    """
    every = list(data.labels.values())
    every = [data.start, *every] if len(every) == 1 else every
    # How many pairs of methods disagree on a pixel.
    apart = np.zeros(data.start.shape)
    for number, one in enumerate(every):
        for other in every[:number]:
            apart += one != other
    if not apart.any():
        return None
    height, width = (max(1, round(_REGION * side)) for side in data.start.shape)
    sums = np.pad(apart, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
    inside += sums[:-height, :-width]
    y, x = (int(place) for place in np.unravel_index(inside.argmax(), inside.shape))
    return y, x, y + height, x + width


class _Painter:
    """Draw whole pictures and regions of a comparison, all at one size."""

    def __init__(self, data: ComparisonData, side: int, box: Box | None, errors: bool) -> None:
        height, width = data.start.shape
        self.data, self.box, self.with_errors = data, box, errors
        self.scale = side / max(height, width)
        self.size = max(1, round(self.scale * width)), max(1, round(self.scale * height))
        self.whole = (0, 0, height, width)
        # The last colour is that of the pixels of the ground truth that do not count.
        own, (_, ignored) = named_colours(data.palette, data.class_names), ERROR_KEYS[1]
        self.palette = np.concatenate([own, np.array([ignored], np.uint8)])

    def inputs(self) -> list[Cell]:
        """Show the image, its regions and the ground truth if they are given."""
        cells = []
        if self.data.image is not None:
            cells.append(Cell("image", self.stack(self.photograph)))
        if self.data.regions is not None:
            cells.append(Cell("regions", self.stack(self.outlined)))
        gt = self.data.gt
        if gt is not None:
            known = np.where(gt == self.data.ignore_index, len(self.palette) - 1, gt)
            cells.append(Cell("ground truth", self.stack(lambda box: self.painted(known, box))))
        return cells

    def method(self, row: Row) -> Cell:
        """Show the labels of a method, under its figures."""
        labels = self.data.labels[row.method]
        pictures = self.stack(lambda box: self.painted(labels, box))
        if self.with_errors:
            pictures.append(self.errors(labels))
        return Cell(row.method, pictures, " · ".join(_write_figures(row)))

    def stack(self, paint: Callable[[Box], Image.Image]) -> list[Image.Image | None]:
        """Paint the whole image, and the region below it."""
        if self.box is None:
            return [paint(self.whole)]
        upper, left, lower, right = (self.scale * edge for edge in self.box)
        width = max(1, max(self.size) // 200)
        frame = (left, upper, right, lower)
        return [framed(paint(self.whole), frame, width=width), paint(self.box)]

    def photograph(self, box: Box) -> Image.Image:
        """Cut the region out of the image; white if there is no image."""
        image = self.data.image
        if image is None:
            return Image.new("RGB", self.size, "white")
        y1, x1, y2, x2 = box
        return image.resize(self.size, Image.Resampling.BICUBIC, box=(x1, y1, x2, y2))

    def painted(self, labels: npt.NDArray[Any], box: Box) -> Image.Image:
        """Lay labels over the image; faint lines do not hide fine patterns."""
        return overlay(
            self.photograph(box), cut_labels(labels, box, self.size), len(self.palette),
            alpha=0.55 if self.data.image is not None else 1.0,
            outline=0.5,
            palette=self.palette,
        )  # fmt: skip

    def outlined(self, box: Box) -> Image.Image:
        """Draw the borders of the regions."""
        assert self.data.regions is not None
        return borders(self.photograph(box), cut_labels(self.data.regions, box, self.size))

    def errors(self, labels: npt.NDArray[Any]) -> Image.Image:
        """Mark what is wrong in the whole image."""
        data = self.data
        assert data.gt is not None
        labels, gt = (cut_labels(array, self.whole, self.size) for array in (labels, data.gt))
        return error_map(
            self.photograph(self.whole), labels, gt, len(data.class_names),
            ignore_index=data.ignore_index,
        )  # fmt: skip

    def legend(self) -> list[list[Key]]:
        """Name the classes that some method or the ground truth has, and the marks."""
        data = self.data
        seen = np.unique(np.concatenate([np.unique(x) for x in data.labels.values()]))
        marks = []
        if data.gt is not None:
            in_gt = np.unique(data.gt)
            seen = np.union1d(seen, in_gt[in_gt != data.ignore_index])
            wrong, ignored = ERROR_KEYS
            marks = [wrong] * self.with_errors
            marks += [ignored] * bool((data.gt == data.ignore_index).any())
        return [keys(data.class_names, data.palette, seen.tolist()), marks]


def _write_figures(row: Row) -> list[str]:
    """Write the figures that stand below a method's title, the most telling first."""
    figures = []
    if row.miou is not None and row.boundary_iou is not None:
        figures.append(f"mIoU {100 * row.miou:.1f} · Boundary IoU {100 * row.boundary_iou:.1f}")
    elif row.changed is not None:
        figures.append(f"{100 * row.changed:.1f} % changed")
    if row.seconds is not None:
        long = row.seconds >= 1
        figures.append(f"{row.seconds:.3g} s" if long else f"{1000 * row.seconds:.3g} ms")
    return figures
