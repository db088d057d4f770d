"""What a comparison is given, checked: methods by name, ground truth, names of classes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.compose.chain import Chain
from lpprop.compose.composite import step_name
from lpprop.compose.pipeline import _as_chain

if TYPE_CHECKING:
    import numpy.typing as npt

    Method = str | Callable[..., Tensor]
    Methods = Sequence[Method] | Mapping[str, Method] | None

__all__ = ["DEFAULT_METHODS", "as_class_names", "as_gt", "named_chains"]

#: What is compared where nothing is named, as far as the inputs allow it.
DEFAULT_METHODS = (
    "bilinear", "joint_bilateral", "lposs", "lposs+", "optimal_path", "max_velocity", "pamr",
    "dense_crf",
)  # fmt: skip

# Packages that a default method cannot do without.
_PACKAGES = {"dense_crf": "pydensecrf"}


def named_chains(methods: Methods, given: Sequence[str]) -> dict[str, Chain | str]:
    """Build each method, under a name of its own; where a package lacks, say so in its place.

    Args:
        methods: as `lpprop.compare` takes them.
        given: the names of the inputs that there are.
    """
    if methods is None:
        chains = {name: _as_chain(name, {}) for name in DEFAULT_METHODS if _installed(name)}
        return {name: chain for name, chain in chains.items() if not _lacks(chain, given)}
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
        return _as_chain(method, {})
    except ImportError as error:
        return str(error)


def _installed(name: str) -> bool:
    return name not in _PACKAGES or importlib.util.find_spec(_PACKAGES[name]) is not None


def _lacks(chain: Chain, given: Sequence[str]) -> bool:
    """Tell whether a chain needs an input that is not there; attention is built from feats."""
    return any(
        name not in given and not (name == "attention" and "feats" in given) for name in chain.needs
    )


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
    if isinstance(names, str) or len(names) != classes:
        raise InputError.of(
            "class_names",
            got=repr(names) if isinstance(names, str) else f"{len(names)} names",
            expected=f"{classes}, one per class of the logits",
            fix="Pass a list of names, in the order of the logits' classes.",
        )
    return [str(name) for name in names]


def as_gt(
    gt: object, size: tuple[int, int], classes: int, ignore_index: int
) -> npt.NDArray[np.int64]:
    """Return true labels (H, W) from an array, a tensor or a PIL image of class indices."""
    from lpprop.evaluation.counts import checked_ignore_index

    checked_ignore_index(ignore_index, classes)
    if isinstance(gt, Tensor):
        gt = gt.detach().cpu().numpy()
    mode = getattr(gt, "mode", None) if hasattr(gt, "convert") else None  # of a PIL image
    array: npt.NDArray[Any] = np.asarray(gt)
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise InputError.of(
            "gt",
            got=f"an image of mode {mode!r}" if mode else f"shape {array.shape} of {array.dtype}",
            expected="one integer per pixel, its class",
            fix="Turn colours into class indices, for example with the data set's own tools.",
        )
    if array.shape != size:
        raise InputError.of(
            "gt",
            got=f"{array.shape[0]} x {array.shape[1]} pixels",
            expected=f"{size[0]} x {size[1]}, the results' size",
            fix=f"Pass size={array.shape} to compare at the size of gt.",
        )
    counted = array[array != ignore_index]
    if counted.size == 0 or counted.min() < 0 or counted.max() >= classes:
        held = f"values from {counted.min()} to {counted.max()}" if counted.size else "no label"
        raise InputError.of(
            "gt",
            got=f"{held} beside those ignored",
            expected=f"classes from 0 to {classes - 1}",
            fix=f"Pixels without a label must be {ignore_index}: change ignore_index.",
        )
    return array.astype(np.int64)
