"""What help and completion list: methods, inputs, models, data sets, without what they name.

The tables of these hold classes, whose import takes over a second. What the parsers read of them is
therefore kept in listing.json, which `make derived` writes; a table that is imported already is
read itself, with the rows that a user has added.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from importlib.resources import files
from typing import Any, NamedTuple

__all__ = [
    "InputFile",
    "Method",
    "Option",
    "datasets",
    "input_files",
    "methods",
    "options",
    "palettes",
    "proposers",
    "proposers_summary",
    "read_tables",
    "recipes",
]


class Method(NamedTuple):
    """A preset: its names, what it does and needs, its paper, and the extra that it requires."""

    name: str
    python_name: str
    note: str
    needs: list[str]
    paper: str
    details: str
    extra: str


class Option(NamedTuple):
    """An option of a preset: what it does, what it may be, and what `lpprop tune` tries."""

    name: str
    default: str
    what: str
    allowed: str
    tuned: str


class InputFile(NamedTuple):
    """An input that files hold, and the shape of its array there."""

    name: str
    what: str
    file: str


def methods() -> list[Method]:
    """List the presets, in the order of their table.

    >>> [row.name for row in methods()][:3]
    ['bilinear', 'joint_bilateral', 'auto']
    """
    return [Method(*row) for row in _listed("methods")]


def options(method: str) -> list[Option]:
    """List the options of a preset that is in the table.

    >>> strength = options("region_vote")[1]
    >>> strength.default, strength.allowed, strength.tuned
    ('1.0', 'a number in [0, 1]', '0.1 to 1')
    """
    return [Option(*row) for row in _listed("options")[method]]


def input_files() -> list[InputFile]:
    """List the inputs beside the scores that files hold."""
    return [InputFile(*row) for row in _listed("inputs")]


def proposers() -> list[str]:
    """List the names that --regions knows."""
    return list(_listed("proposers")["names"])


def proposers_summary() -> str:
    """Return what help and errors say of those names."""
    return str(_listed("proposers")["summary"])


def recipes() -> list[str]:
    """List the names that --recipe knows."""
    return list(_listed("recipes"))


def palettes() -> list[str]:
    """List the names that --palette knows."""
    return list(_listed("palettes"))


def datasets() -> list[str]:
    """List the names that --dataset knows."""
    return list(_listed("datasets"))


def read_tables() -> dict[str, Any]:
    """Return what listing.json should hold, from the tables themselves."""
    return {name: read() for name, (_, read) in _TABLES.items()}


def _listed(name: str) -> Any:
    module, read = _TABLES[name]
    return read() if module in sys.modules else _stored()[name]


@functools.cache
def _stored() -> dict[str, Any]:
    text = files("lpprop.cli").joinpath("listing.json").read_text(encoding="utf-8")
    stored: dict[str, Any] = json.loads(text)
    return stored


def _read_methods() -> Any:
    import inspect

    from lpprop.compose.presets import METHODS

    return [
        Method(
            row.name, row.python_name, row.note, list(row.needs), row.paper,
            inspect.cleandoc(row.details), row.package[1] if row.package else "",
        )
        for row in METHODS.values()
    ]  # fmt: skip


def _read_options() -> Any:
    from lpprop.compose.presets import METHODS
    from lpprop.evaluation.tuning.space import tuned_options
    from lpprop.interaction.controls import describe_options

    found = {}
    for preset in METHODS.values():
        tuned, texts = tuned_options(preset, given=()), describe_options(preset)
        for settings in preset.feats_from.values():
            texts["feats_from"] = f"what made the feats, which sets {', '.join(settings)}"
        found[preset.name] = [
            Option(
                name, repr(default), texts[name], _allowed(preset, name), str(tuned.get(name, ""))
            )
            for name, default in preset.options.items()
        ]
    return found


def _allowed(preset: Callable[..., object], option: str) -> str:
    """Return what an option may be, in the words of the error for what no option may be."""
    from lpprop._core.errors import InputError

    try:
        preset(**{option: object()})
    except InputError as error:
        return str(error).partition(", expected ")[2].partition(". ")[0]
    return "anything"


def _read_inputs() -> Any:
    from lpprop.inputs.table import INPUTS

    return [InputFile(row.name, row.what, row.file) for row in INPUTS.values() if row.file]


def _read_proposers() -> Any:
    from lpprop.regions.named import NAMES, SUMMARY

    return {"names": NAMES, "summary": SUMMARY}


def _read_recipes() -> Any:
    from lpprop.models.recipes import RECIPES

    return list(RECIPES)


def _read_datasets() -> Any:
    from lpprop.evaluation.datasets import DATASETS

    return list(DATASETS)


def _read_palettes() -> Any:
    from lpprop.viz.palettes import PALETTES

    return list(PALETTES)


# Each table, by the module that holds it.
_TABLES: dict[str, tuple[str, Callable[[], Any]]] = {
    "methods": ("lpprop.compose.presets.table", _read_methods),
    "options": ("lpprop.interaction.controls", _read_options),
    "inputs": ("lpprop.inputs.table", _read_inputs),
    "proposers": ("lpprop.regions.named", _read_proposers),
    "recipes": ("lpprop.models.recipes", _read_recipes),
    "palettes": ("lpprop.viz.palettes", _read_palettes),
    "datasets": ("lpprop.evaluation.datasets", _read_datasets),
}
