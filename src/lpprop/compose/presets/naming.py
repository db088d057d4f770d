"""Names of methods: a preset's with what differs from its defaults, or those of the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from lpprop._core.refiner import Refiner
from lpprop.compose.chain import Chain
from lpprop.compose.composite import Composite, step_name, steps_of
from lpprop.compose.presets.preset import Preset
from lpprop.compose.presets.table import METHODS

__all__ = ["name_method"]


def name_method(method: object) -> str:
    """Name a method as one would write it.

    The name follows from the steps and what they are set to, so that it is also right for a chain
    that was changed, copied, or put together by hand.

    >>> from lpprop.compose.presets import lposs, lposs_plus, pamr
    >>> name_method(lposs_plus), name_method(lposs(k=50)), name_method(lposs(feats_from="dinov2"))
    ('lposs+', 'lposs(k=50)', "lposs(feats_from='dinov2')")
    >>> name_method(Chain(lposs(), pamr(iterations=3).steps[1]))
    'lposs + PAMR(iterations=3)'
    """
    if isinstance(method, str):
        return method
    if isinstance(method, Preset):
        return method.name
    if isinstance(method, Chain):
        found = [(row.name, own) for row in METHODS.values() for own in _options(row, method)]
        if found:  # the model that made the feats before the settings that follow from it
            return _write(*min(found, key=lambda x: (len(x[1]), "feats_from" not in x[1])))
        steps = " + ".join(map(name_method, method.steps))
        own = method.temperature is not None
        return f"{steps}, temperature={method.temperature!r}" if own else steps
    if isinstance(method, Refiner):
        return _write(type(method).__name__, _differences(method.config, method.defaults))
    if isinstance(method, nn.Module):
        return step_name(method)
    return str(getattr(method, "__name__", type(method).__name__))


def _options(preset: Preset, chain: Chain) -> list[dict[str, Any]]:
    """Return the options that make a chain of a preset, one way per `feats_from`; or no way."""
    steps, names = list(steps_of(chain)), preset.names()
    # Its package is installed if its steps are there, so that the preset can be built.
    if [type(step) for step in steps] != [kind for kind, _ in names]:
        return []
    if _structure(preset()) != _structure(chain):
        return []
    values: dict[str, Any] = {}
    for step, (_, own) in zip(cast(list[Refiner], steps), names, strict=True):
        for keyword, value in step.config.items():
            if values.setdefault(own[keyword], value) != value:
                return []  # two steps differ in an option that the preset sets for both
    if "temperature" in preset.options:
        values["temperature"] = chain.temperature
    elif chain.temperature is not None:
        return []
    every = []
    for number, (source, settings) in enumerate((preset.feats_from or {"": {}}).items()):
        chosen = {"feats_from": source} if number else {}
        every.append(chosen | _differences(values, preset.options | dict(settings)))
    return every


def _structure(step: nn.Module) -> tuple[Any, ...]:
    steps = step.steps if isinstance(step, Composite) else ()
    return type(step), *map(_structure, steps)


def _differences(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value != defaults[name]}


def _write(name: str, options: Mapping[str, Any]) -> str:
    inside = ", ".join(f"{option}={value!r}" for option, value in options.items())
    return f"{name}({inside})" if inside else name
