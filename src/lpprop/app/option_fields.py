"""A field of the page per option of a method, and what the fields say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lpprop.interaction.controls import Control, changed_options

__all__ = ["make_field", "read_options", "reset_options"]


def make_field(method: str, control: Control) -> Any:
    """Make the field of an option."""
    import gradio as gr

    own: dict[str, Any] = {
        "label": control.name,
        "info": control.what + (" (auto until it is moved)" if control.default == "auto" else ""),
        "elem_id": f"option-{method}-{control.name}",
        "key": f"option-{method}-{control.name}",
        "interactive": True,  # a field that is reset would else count as an output
    }
    if control.kind == "flag":
        return gr.Checkbox(bool(control.start), **own)
    if control.kind == "choice":
        choices = [(str(one), repr(one)) for one in control.choices]
        return gr.Dropdown(choices, value=repr(control.start), **own)
    step = control.step if control.kind == "int" else _step(control)
    return gr.Slider(control.low, control.high, control.start, step=step, **own)


def _step(control: Control) -> float:
    """Return the step of a slider, small enough for the lower end of a range over decades."""
    step = control.low if control.log else (control.high - control.low) / 100
    return float(f"{step:.1g}")


def read_options(
    method: str, known: Sequence[Control], options: Mapping[str, Any], *values: Any
) -> dict[str, Any]:
    """Return the options with those of one method as its fields say.

    Args:
        method: the method.
        known: its controls.
        options: the options that were moved so far, by method.
        values: what the fields hold, in the order of the controls.

    >>> from lpprop.interaction.controls import controls
    >>> read_options("pamr", controls("pamr"), {}, 3, "(8, 16)")
    {'pamr': {'iterations': 3}}
    """
    read = {
        control.name: next((one for one in control.choices if repr(one) == value), control.start)
        if control.kind == "choice"
        else int(value)
        if control.kind == "int"
        else value
        for control, value in zip(known, values, strict=True)
    }
    return {**options, method: changed_options(known, read)}


def reset_options(
    method: str, known: Sequence[Control], options: Mapping[str, Any]
) -> tuple[Any, ...]:
    """Return the options without those of one method, and its fields as they were."""
    starts = [repr(one.start) if one.kind == "choice" else one.start for one in known]
    return {name: own for name, own in options.items() if name != method}, *starts
