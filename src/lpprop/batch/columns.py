"""Batches as columns: what engines give, taken apart into items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from lpprop._core.errors import InputError

__all__ = ["list_items", "refuse_taken"]


def list_items(
    batch: object, inputs: Sequence[str], required: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Take a batch apart into one dictionary of inputs for each item.

    Args:
        batch: a mapping of columns. A column is a list with an entry per item, an object array, or
            an array or tensor whose first axis counts the items, where all have one shape.
        inputs: the columns to take; the others are not looked at.
        required: those that have to be there. The first one of them holds grids or images, which
            have three axes, or encoded ones.

    Raises:
        InputError: no mapping, a missing column, one that is none, columns of unequal lengths, or a
            single item in place of a batch.

    >>> list_items({"image": ["a.jpg", "b.jpg"], "size": [[3, 4], [5, 6]]}, ["image"], ("image",))
    [{'image': 'a.jpg'}, {'image': 'b.jpg'}]
    """
    columns = _require_columns(batch, required)
    taken = {name: columns[name] for name in inputs if name in columns}
    for name, column in taken.items():
        if not _is_column(column) or (name == required[0] and _is_item(column)):
            raise InputError.of(
                name,
                got=_describe(column),
                expected="a column with an entry per item of the batch",
                fix="Pass a list or an array with one more axis; a single item goes to .process().",
            )
    lengths = {name: len(column) for name, column in taken.items()}
    if len(set(lengths.values())) > 1:
        raise InputError.of(
            "batch",
            got=", ".join(f"{name} with {length}" for name, length in lengths.items()) + " items",
            expected="columns of one length",
            fix="Each column has an entry per item; a single item goes to .process().",
        )
    return list(_rows(taken, lengths[required[0]]))


def refuse_taken(batch: Mapping[str, Any], outputs: Sequence[str]) -> None:
    """Refuse a batch that has a column of the name of an output, which would be overwritten.

    >>> refuse_taken({"image": [], "labels": []}, ["labels", "error"])
    Traceback (most recent call last):
    lpprop.InputError: batch: got a column 'labels', expected none of this name, since it is that of
    a result. Rename the column, or leave it out.
    """
    for name in outputs:
        if name in batch:
            raise InputError.of(
                "batch",
                got=f"a column {name!r}",
                expected="none of this name, since it is that of a result",
                fix="Rename the column, or leave it out.",
            )


def _rows(columns: Mapping[str, Any], length: int) -> Iterator[dict[str, Any]]:
    for number in range(length):
        yield {name: column[number] for name, column in columns.items()}


def _require_columns(batch: object, required: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(batch, Mapping):
        raise InputError.of(
            "batch",
            got=type(batch).__name__,
            expected="a dictionary of columns",
            fix='Let the engine give one: batch_format="numpy" of Ray, batched=True of datasets.',
        )
    for name in required:
        if name not in batch:
            raise InputError.of(
                "batch",
                got=f"the columns {', '.join(map(str, batch)) or 'none'}",
                expected=f"a column {name!r} among them",
                fix="Rename the column that holds it.",
            )
    return batch


def _is_column(column: object) -> bool:
    if isinstance(column, (np.ndarray, Tensor)):
        return column.ndim > 0
    return isinstance(column, Sequence) and not isinstance(column, (str, bytes, bytearray))


def _is_item(column: object) -> bool:
    """Tell whether an array of numbers is one grid or image, and no stack of them."""
    if isinstance(column, np.ndarray):
        return column.dtype.kind in "fiub" and column.ndim < 4
    return isinstance(column, Tensor) and column.ndim < 4


def _describe(column: object) -> str:
    if isinstance(column, (np.ndarray, Tensor)):
        return f"an array of shape {tuple(column.shape)}"
    return type(column).__name__
