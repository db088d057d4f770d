"""What a comparison is given, checked: methods by name, ground truth, names of classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map, check_ignore_index
from lpprop._core.options import is_listed
from lpprop.compose.chain import Chain
from lpprop.compose.composite import missing_input, step_name
from lpprop.compose.pipeline import as_chain
from lpprop.compose.presets import METHODS

if TYPE_CHECKING:
    import numpy.typing as npt

    Method = str | Callable[..., Tensor]
    Methods = Sequence[Method] | Mapping[str, Method] | None

__all__ = ["as_class_names", "as_gt", "named_chains"]


def named_chains(methods: Methods, given: Collection[str]) -> dict[str, Chain | str]:
    """Build each method, under a name of its own; where a package lacks, say so in its place.

    Args:
        methods: as `lpprop.compare` takes them.
        given: the names of the inputs that there are.
    """
    if methods is None:
        rows = [row for row in METHODS.values() if row.compared and row.is_installed]
        return {row.name: row() for row in rows if not missing_input(row, given)}
    if isinstance(methods, Mapping):
        named = [(str(name), method) for name, method in methods.items()]
    elif isinstance(methods, Sequence) and not isinstance(methods, str):
        named = [(_name(method), method) for method in methods]
    else:
        raise InputError.of(
            "methods",
            got=repr(methods),
            expected="a list of methods, or a mapping from names to them",
            fix="Pass a list also for a single one, such as ['lposs+'].",
        )
    if not named:
        raise InputError.of(
            "methods", got="none", expected="one or more", fix="Leave it out for the default."
        )
    return {name: _chain(method) for name, method in _numbered(named).items()}


def _chain(method: Method) -> Chain | str:
    """Return a method's chain, or why there is none: a package that is not installed."""
    try:
        return as_chain(method)
    except ImportError as error:
        return str(error)


def _name(method: Method) -> str:
    if isinstance(method, str):
        return method
    if isinstance(method, Chain):
        return " + ".join(step_name(step) for step in method.steps)
    return getattr(method, "__name__", type(method).__name__)


def _numbered(named: Sequence[tuple[str, Method]]) -> dict[str, Method]:
    """Tell methods of one name apart."""
    methods: dict[str, Method] = {}
    for name, method in named:
        unique, number = name, 1
        while unique in methods:
            number += 1
            unique = f"{name} ({number})"
        methods[unique] = method
    return methods


def as_class_names(names: Sequence[str] | None, classes: int) -> list[str]:
    """Return the classes' names, or their numbers if names is None."""
    if names is None:
        return [str(number) for number in range(classes)]
    # A set has no order, in which the names could stand for the classes.
    if not is_listed(names) or len(names) != classes:
        raise InputError.of(
            "class_names",
            got=f"{len(names)} names" if is_listed(names) else repr(names)[:200],
            expected=f"{classes}, one per class of the logits",
            fix="Pass a list of names, in the order of the logits' classes.",
        )
    return [str(name) for name in names]


def as_gt(gt: Any, size: tuple[int, int], classes: int, ignore_index: int) -> npt.NDArray[np.int64]:
    """Return true labels (H, W) from an array, a tensor or a PIL image of class indices."""
    check_ignore_index(ignore_index, classes)
    if not hasattr(gt, "convert") and np.shape(gt)[:-2] == (1,):  # one item, and no PIL image
        (gt,) = gt
    array = as_label_map("gt", gt, classes, ignore_index)
    if array.shape != size:
        raise InputError.of(
            "gt",
            got=f"{array.shape[0]} x {array.shape[1]} pixels",
            expected=f"{size[0]} x {size[1]}, the results' size",
            fix=f"Pass size={array.shape} to compare at the size of gt.",
        )
    if (array == ignore_index).all():
        raise InputError.of(
            "gt",
            got=f"no label but {ignore_index}, which does not count",
            expected=f"classes from 0 to {classes - 1}",
            fix="Change ignore_index.",
        )
    return array.astype(np.int64)
