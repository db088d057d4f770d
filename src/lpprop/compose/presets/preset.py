"""A preset: the steps of a method with the settings of its paper, under a name."""

from __future__ import annotations

import importlib.util
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from lpprop._core.options import check_choice, unknown_option
from lpprop._core.refiner import Refiner
from lpprop.compose.chain import Chain
from lpprop.inputs.table import INPUTS

__all__ = ["Preset"]

# Options that mean the same in every step that has them, so that one value holds for all.
_SHARED = ("alpha", "max_iter", "tol")

Step = type[Refiner] | partial[Any]


@dataclass(frozen=True, eq=False)
class Preset:
    """One row of the table; called with options, it returns a `Chain`.

        chain = lpprop.presets.max_velocity(tau=0.5)

    Its options are those of its steps. If two steps have an option of the same name, that of the
    later step gets a prefix (`pixel_sigma`), except for the options of the solvers, if both steps
    have the same default.

    Attributes:
        name: its name in `method=`.
        steps: the refiners, or `functools.partial` of them with settings that differ from their
            defaults.
        paper: its source.
        note: what it does, in a line.
        details: published figures, deviations, advice.
        arrange: builds the chain from the steps, if they do not simply run in sequence.
        feats_from: settings of the first step, by the model that made the feats; the first model is
            the default of the option `feats_from`.
        windowed: the preset that takes its place where windows cut the image; itself if empty.
        package: an optional package that it requires, and the extra that installs it.
        compared: whether `lpprop.compare` runs it if no method is named.

    Raises:
        InputError: in a call: an option that it does not have, or that is out of range.
        ImportError: in a call: its package is not installed.

    >>> import lpprop
    >>> lpprop.presets.pamr.needs, lpprop.presets.pamr.options
    (('image',), {'iterations': 5, 'dilations': (8, 16)})
    >>> mine = Preset("mine", (lpprop.BilinearUpsample, lpprop.PAMR), paper="Me", note="as I do it")
    >>> mine(iterations=3).steps[1]
    PAMR(iterations=3, dilations=(8, 16))
    """

    name: str
    steps: tuple[Step, ...]
    paper: str
    note: str
    details: str = ""
    arrange: Callable[..., Chain] = Chain
    feats_from: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    windowed: str = ""
    package: tuple[str, str] | None = None
    compared: bool = False

    def __post_init__(self) -> None:
        """Set the name, docstring and signature that functions have."""
        keywords = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
            for name, default in self.options.items()
        ]
        needs = ", ".join(self.needs).replace("attention", "attention or feats")
        options = ", ".join(f"{name}={default!r}" for name, default in self.options.items())
        text = f"{self.note[:1].upper()}{self.note[1:]}.\n\n{self.paper}. "
        text += f"Needs {needs or 'nothing beside the scores'}. Options: {options or 'none'}.\n\n"
        named = {
            "__name__": self.python_name,
            "__doc__": text + textwrap.dedent(self.details).strip(),
            "__signature__": inspect.Signature(keywords, return_annotation=Chain),
        }
        for name, value in named.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        """Show where to find it."""
        return f"lpprop.presets.{self.python_name}"

    def __call__(self, **options: Any) -> Chain:
        """Build the chain, with options in place of the paper's settings."""
        for name in options:
            if name not in self.options:
                raise unknown_option(name, self.name, self.options, inputs=INPUTS)
        if self.feats_from:
            made_by = options.pop("feats_from", next(iter(self.feats_from)))
            check_choice("feats_from", made_by, tuple(self.feats_from))
            options = {**self.feats_from[made_by], **options}
        chain = {"temperature": options.pop("temperature")} if "temperature" in options else {}
        steps = [
            step(**{own: options[name] for own, name in names.items() if name in options})
            for step, (_, names) in zip(self.steps, self.names(), strict=True)
        ]
        return self.arrange(*steps, **chain)

    @property
    def python_name(self) -> str:
        """Its name in `lpprop.presets`: lposs_plus, lposs_regions."""
        return re.sub(r"\+$", "_plus", self.name).replace("+", "_")

    @property
    def options(self) -> dict[str, Any]:
        """The options that it takes, with their defaults."""
        options: dict[str, Any] = {}
        if self.feats_from:
            options["feats_from"] = next(iter(self.feats_from))
        for step, (_, names) in zip(self.steps, self.names(), strict=True):
            for own, name in names.items():
                options.setdefault(name, _defaults(step)[own])
        if "attention" in self.needs:
            options["temperature"] = None
        return options

    @property
    def needs(self) -> tuple[str, ...]:
        """The inputs that it requires; attention may be built from feats."""
        return tuple(dict.fromkeys(name for step in self.steps for name in _refiner(step).needs))

    @property
    def takes(self) -> frozenset[str]:
        """All inputs that some step takes."""
        return frozenset(name for step in self.steps for name in _refiner(step).takes)

    @property
    def is_installed(self) -> bool:
        """Whether the package that it requires is installed."""
        return self.package is None or importlib.util.find_spec(self.package[0]) is not None

    def names(self) -> list[tuple[type[Refiner], dict[str, str]]]:
        """Return the class of each step, and the preset's names of its keywords."""
        taken: dict[str, Any] = {}
        names: list[tuple[type[Refiner], dict[str, str]]] = []
        for step in self.steps:
            own = {}
            for keyword, default in _defaults(step).items():
                shared = keyword in _SHARED and taken.get(keyword) == default
                clash = keyword in taken and not shared
                own[keyword] = f"{_prefix(step)}_{keyword}" if clash else keyword
            taken |= _defaults(step)
            names.append((_refiner(step), own))
        return names


def _refiner(step: Step) -> type[Refiner]:
    return cast(type[Refiner], step.func if isinstance(step, partial) else step)


def _defaults(step: Step) -> dict[str, Any]:
    keywords = step.keywords if isinstance(step, partial) else {}
    return {**_refiner(step).defaults, **keywords}


def _prefix(step: Step) -> str:
    """Return the first word of a refiner's name: pixel of PixelPropagation."""
    return re.sub(r"(?<=[a-z])[A-Z].*", "", _refiner(step).__name__).lower()
