"""What a comparison is given, checked: methods by name, and names of classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_names
from lpprop.compose.chain import Chain
from lpprop.compose.composite import missing_input
from lpprop.compose.pipeline import as_chain
from lpprop.compose.presets import METHODS, Preset
from lpprop.compose.presets.naming import name_method

__all__ = ["as_class_names", "default_presets", "named_chains"]

Method = str | Callable[..., Tensor]
Methods = Sequence[Method] | Mapping[str, Method] | None


def named_chains(methods: Methods, given: Collection[str]) -> dict[str, Chain | str]:
    """Build each method, under a name of its own; where a package lacks, say so in its place.

    Args:
        methods: as `lpprop.compare` takes them.
        given: the names of the inputs that there are.
    """
    if methods is None:
        return {row.name: row() for row in default_presets(given)}
    windowed = "windows" in given
    if isinstance(methods, Mapping):
        named = [(str(name), method) for name, method in methods.items()]
    elif isinstance(methods, Sequence) and not isinstance(methods, str):
        named = [(name_method(method), method) for method in methods]
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
    return {name: _chain(method, windowed) for name, method in _numbered(named).items()}


def default_presets(given: Collection[str]) -> list[Preset]:
    """List the presets that are compared if none is named: those that these inputs allow."""
    rows = [row for row in METHODS.values() if row.compared and row.is_installed]
    if "windows" in given:  # where a preset that has another for windows would come twice
        rows = [row for row in rows if not row.windowed]
    return [row for row in rows if not missing_input(row, given)]


def _chain(method: Method, windowed: bool) -> Chain | str:
    """Return a method's chain, or why there is none: a package that is not installed."""
    try:
        return as_chain(method, windowed=windowed)
    except ImportError as error:
        return str(error)


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


def as_class_names(names: object, classes: int) -> list[str]:
    """Return the classes' names, or their numbers if names is None."""
    if names is None:
        return [str(number) for number in range(classes)]
    return check_names("class_names", names, classes)
