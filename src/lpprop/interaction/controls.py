"""A control per option of a method: what a slider, a menu or a tick box needs to know.

The ranges are those that the tuner searches, the defaults those of the presets, and the texts those
of the functions' docstrings, so that an option of a new refiner needs no line here.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from lpprop._core.options import check_integer
from lpprop.compose.chain import Chain
from lpprop.compose.presets import Preset, find
from lpprop.evaluation.tuning.space import (
    Choice,
    Number,
    Range,
    Rest,
    Share,
    Whole,
    default_options,
    tuned_options,
)

__all__ = ["Control", "changed_options", "controls", "describe_options"]

Kind = Literal["float", "int", "choice", "flag"]


class Control(NamedTuple):
    """One option of a method, and how it can be set.

    Attributes:
        name: the keyword of `lpprop.refine`.
        kind: "float" or "int" for a slider, "choice" for a menu, "flag" for a tick box.
        default: the preset's value. It may lie outside the range, and be "auto" or None, where the
            method chooses the number itself.
        start: where the control stands until it is moved: the default, or the number of the range
            that is nearest to it, or the middle of the range for "auto" and None.
        low: the lowest value of a slider.
        high: the highest value of a slider.
        step: the distance of an integer to the next one.
        log: whether equal steps of the slider should multiply the value by the same factor.
        choices: the values of a menu.
        what: what the option does, in a few words.
    """

    name: str
    kind: Kind
    default: Any
    start: Any
    low: float = 0.0
    high: float = 1.0
    step: int = 1
    log: bool = False
    choices: tuple[Any, ...] = ()
    what: str = ""


def controls(
    method: str | Preset, *, patches: int = 1024, given: Collection[str] = ("feats", "image")
) -> tuple[Control, ...]:
    """Return a control for each option of a method that is worth trying.

    Args:
        method: a name in `lpprop.presets.METHODS`.
        patches: how many patches the image's features have, >= 2: no more neighbours can be asked
            for.
        given: the inputs that are given. The temperature belongs to attention that is built from
            feats, and has a control only where no attention is given.

    Returns:
        A `Control` per option, in the order of the method's steps.

    Raises:
        InputError: an unknown method, or patches out of range.

    >>> for control in controls("lposs", patches=196):
    ...     print(control.name, control.kind, control.low, control.high, control.start)
    k int 2 196 196
    gamma float 1.0 100.0 3.0
    sigma float 0.0001 0.1 0.01
    alpha float 0.1 0.99 0.95
    """
    patches = check_integer("patches", patches, low=2)
    preset = find(method)
    defaults, texts = default_options(preset.name, {}), describe_options(preset)
    return tuple(
        _control(name, allowed, defaults[name], texts.get(name, ""), patches)
        for name, allowed in tuned_options(preset, given).items()
    )


def changed_options(shown: Iterable[Control], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options whose controls were moved, so that all others keep the preset's value.

    Args:
        shown: the controls of a method.
        values: what they stand at, by name; a control without a value was not moved.

    Returns:
        The options by name, as `lpprop.refine` takes them.

    >>> changed_options(controls("pamr"), {"iterations": 3, "dilations": (8, 16)})
    {'iterations': 3}
    """
    return {
        control.name: values[control.name]
        for control in shown
        if control.name in values and values[control.name] != control.start
    }


def _control(name: str, allowed: Range, default: Any, what: str, patches: int) -> Control:
    """Turn a range of the tuner into a control."""
    if isinstance(allowed, Choice):
        if set(allowed.values) == {True, False}:
            return Control(name, "flag", default, bool(default), what=what)
        # The default comes first where it is none of what the tuner tries.
        values = tuple(dict.fromkeys([default, *allowed.values]))
        values = allowed.values if default in allowed.values else values
        return Control(name, "choice", default, default, choices=values, what=what)
    kind: Kind = "float"
    low, high, step, log = 0.0, 1.0, 1, False
    if isinstance(allowed, Number):
        low, high, log = allowed.low, allowed.high, allowed.log
    elif isinstance(allowed, Rest):
        low, high = 1 - allowed.high, 1 - allowed.low
        low, high = round(low, 6), round(high, 6)  # 1 - 0.9 is not quite 0.1
    elif isinstance(allowed, Whole):
        kind, low, high, step = "int", allowed.low, allowed.high, allowed.step
    elif isinstance(allowed, Share):
        kind, low, high, log = "int", max(2, round(allowed.low * patches)), patches, True
    start = default
    if isinstance(default, str) or default is None:  # "auto"
        start = math.sqrt(low * high) if log else (low + high) / 2
        start = float(f"{start:.2g}")
    start = min(max(start, low), high)
    if kind == "int":
        start = int(low + step * round((start - low) / step))
    return Control(name, kind, default, start, low, high, step, log, what=what)


def describe_options(preset: Preset) -> dict[str, str]:
    """Return what each option of a preset does, by the docstrings of its steps' functions.

    >>> describe_options(find("pamr"))["dilations"]
    'distances of the neighbours in pixels, at least one, each >= 1'
    """
    texts = {"temperature": _arguments(Chain).get("temperature", "")}
    for refiner, names in preset.names():
        own = _arguments(refiner._function)
        for keyword, name in names.items():
            texts.setdefault(name, own.get(keyword, ""))
    return texts


def _arguments(documented: object) -> dict[str, str]:
    """Return the first clause of what a docstring says of each argument.

    >>> _arguments(controls)["patches"]
    "how many patches the image's features have, >= 2: no more neighbours can be asked for"
    """
    _, _, after = (inspect.getdoc(documented) or "").partition("\nArgs:\n")
    section = re.split(r"\n(?=\S)", after, maxsplit=1)[0]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: re.split(r"; |\. |\.$", " ".join(text.split()))[0] for name, text in entries}
