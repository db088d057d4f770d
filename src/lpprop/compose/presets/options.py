"""How the options of a preset reach its steps."""

from __future__ import annotations

from typing import Any

from lpprop._core.refiner import Refiner, unknown_option

__all__ = ["check_known", "configured"]


def check_known(preset: str, options: dict[str, Any], known: list[str]) -> None:
    """Refuse an option that the preset does not have."""
    for name in options:
        if name not in known:
            raise unknown_option(name, preset, known)


def configured(
    preset: str, options: dict[str, Any], *steps: Refiner, own: tuple[str, ...] = ()
) -> list[Refiner]:
    """Give each step those of the options that are its own; `own` are the preset's keywords."""
    check_known(preset, options, [*own, *(name for step in steps for name in step.config)])
    return [
        type(step)(**{name: options.get(name, value) for name, value in step.config.items()})
        for step in steps
    ]
