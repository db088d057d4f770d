"""Clicks on an image: where each is, and which class it marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.options import check_integer, check_number

__all__ = ["Click", "Clicks"]


class Click(NamedTuple):
    """One click: its row and column in pixels, and the class index that it marks."""

    row: float
    column: float
    label: int


class Clicks(Sequence[Click]):
    """The clicks on one image, in the order in which they came.

    They are never changed: each method returns others, so that a view can keep older ones.

    Args:
        clicks: `Click`s, or triples of row, column and label.

    Raises:
        InputError: a row or a column that is no number >= 0, or a label that is no integer >= 0.

    >>> clicks = Clicks().add(3, 4, label=0).add(30, 40, label=1)
    >>> clicks.points, clicks.labels
    (tensor([[ 3.,  4.],
            [30., 40.]]), tensor([0, 1]))
    >>> clicks.remove_nearest(28, 44)
    Clicks([(3, 4, 0)])
    """

    def __init__(self, clicks: Iterable[tuple[float, float, int]] = ()) -> None:
        self._all = tuple(_checked(*click) for click in clicks)

    def add(self, row: float, column: float, label: int) -> Clicks:
        """Return these clicks and one more.

        Raises:
            InputError: as the class raises it.
        """
        return Clicks([*self._all, (row, column, label)])

    def undo(self) -> Clicks:
        """Return these clicks without the last one; without any there is nothing to undo."""
        return Clicks(self._all[:-1])

    def remove_nearest(self, row: float, column: float) -> Clicks:
        """Return these clicks without the nearest one; of equally near ones the last goes."""
        if not self._all:
            return self

        def distance(number: int) -> tuple[float, int]:
            click = self._all[number]
            return (click.row - row) ** 2 + (click.column - column) ** 2, -number

        gone = min(range(len(self._all)), key=distance)
        return Clicks(click for number, click in enumerate(self._all) if number != gone)

    @property
    def points(self) -> Float[Tensor, "n 2"]:
        """Row and column of each click, in pixels."""
        return torch.tensor([click[:2] for click in self._all], dtype=torch.float32).reshape(-1, 2)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """The class index of each click."""
        return torch.tensor([click.label for click in self._all], dtype=torch.int64)

    def __len__(self) -> int:
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Click: ...
    @overload
    def __getitem__(self, index: slice) -> Clicks: ...
    def __getitem__(self, index: int | slice) -> Click | Clicks:
        found = self._all[index]
        return found if isinstance(found, Click) else Clicks(found)

    def __iter__(self) -> Iterator[Click]:
        return iter(self._all)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Clicks) and self._all == other._all

    def __hash__(self) -> int:
        return hash(self._all)

    def __repr__(self) -> str:
        inside = ", ".join(f"({x.row:g}, {x.column:g}, {x.label})" for x in self._all)
        return f"Clicks([{inside}])"


def _checked(row: float, column: float, label: int) -> Click:
    return Click(
        check_number("row", row, low=0),
        check_number("column", column, low=0),
        check_integer("label", label, low=0),
    )
