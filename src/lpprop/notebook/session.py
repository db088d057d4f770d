"""What a view of clicks holds and does, without anything that a notebook needs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.errors import InputError, collect_warnings
from lpprop._core.options import check_from_0, check_names, unknown_option
from lpprop._core.refiner import COMMON
from lpprop.compose.composite import missing_input
from lpprop.compose.pipeline import refine
from lpprop.compose.presets import METHODS, Preset, find
from lpprop.inputs.seeds import seed_logits
from lpprop.interaction.clicks import Clicks
from lpprop.interaction.code import code
from lpprop.interaction.controls import Control, changed_options, controls

__all__ = ["Choices", "Scene", "Session"]


@dataclass(frozen=True)
class Scene:
    """The image that is clicked on, and what the methods are given of it.

    Attributes:
        size: (H, W) of the image.
        grid: (h, w) of the start that clicks make, that of the feats.
        inputs: what `lpprop.refine` is given beside the start: feats, image and others.
        options: options that hold for every method that has them, such as `feats_from`, and the
            size of the result if it is not the image's.
        setup: lines of code that make the inputs, if they are not variables of the caller.
        image: the name of the image in the code.
    """

    size: tuple[int, int]
    grid: tuple[int, int]
    inputs: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    setup: Sequence[str] = ()
    image: str = "image"

    def methods(self) -> list[Preset]:
        """List the presets whose inputs are given and whose packages are installed."""
        rows = [row for row in METHODS.values() if row.is_installed]
        return [row for row in rows if not missing_input(row, self.inputs)]

    def inputs_of(self, method: str) -> dict[str, Any]:
        """Return those of the inputs that a method can be given."""
        takes = {*COMMON, *find(method).takes}
        return {name: value for name, value in self.inputs.items() if name in takes}

    def options_of(self, method: str) -> dict[str, Any]:
        """Return those of the options that a method has, and those of `lpprop.refine`."""
        known = {*find(method).options, "size"}
        return {name: value for name, value in self.options.items() if name in known}

    def controls(self, method: str) -> tuple[Control, ...]:
        """Return the controls of a method, without the options that are given."""
        shown = controls(method, patches=max(2, self.grid[0] * self.grid[1]), given=self.inputs)
        return tuple(control for control in shown if control.name not in self.options)


@dataclass(frozen=True)
class Choices:
    """What can be chosen in a view.

    Attributes:
        classes: a name per class.
        clicks: the clicks so far.
        method: the name of a preset.
        moved: the options that were set, by the method for which they were.
        radius: pixels that each click marks around it.
    """

    classes: tuple[str, ...]
    clicks: Clicks = Clicks()  # noqa: RUF009  # never changed
    method: str = "clicks"
    moved: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    radius: float = 0.0


class Session:
    """Clicks on one image, and the labels that follow from them.

    Every change is tried first: one that cannot be used raises InputError, and leaves all as it
    was.

    Args:
        scene: the image and the inputs of the methods.
        choices: what is chosen at the start.
    """

    def __init__(self, scene: Scene, choices: Choices) -> None:
        self.scene = scene
        self.scores: Float[Tensor, "1 C H W"] | None = None
        self.warnings: list[str] = []
        self.seconds = 0.0
        self._set(choices)

    @property
    def labels(self) -> Int[Tensor, "H W"] | None:
        """The best class of each pixel; None while fewer than two classes are clicked."""
        return None if self.scores is None else self.scores.argmax(1)[0]

    @property
    def options(self) -> dict[str, Any]:
        """The options that `lpprop.refine` is called with."""
        method = self.choices.method
        shown = self.scene.controls(method)
        moved = changed_options(shown, self.choices.moved.get(method, {}))
        return {**self.scene.options_of(method), **moved}

    @property
    def code(self) -> str:
        """The lines of Python that do the same."""
        chosen = self.choices
        # A name, such as regions="slic", is no variable of the caller.
        inputs = self.scene.inputs_of(chosen.method)
        named = {name: x for name, x in inputs.items() if isinstance(x, str)}
        return code(
            chosen.method, {**named, **self.options}, clicks=chosen.clicks, size=self.scene.size,
            classes=len(chosen.classes), grid=self.scene.grid, radius=chosen.radius,
            names=chosen.classes, inputs=[x for x in inputs if x not in named],
            image=self.scene.image, device=str(self._device), setup=self.scene.setup,
        )  # fmt: skip

    def click(self, row: float, column: float, label: int) -> None:
        """Mark a pixel as one of a class."""
        clicks = self.choices.clicks.add(row, column, label)
        height, width = self.scene.size
        if not (row < height and column < width) or label >= len(self.choices.classes):
            raise InputError.of(
                "click",
                got=f"row {row:g}, column {column:g}, class {label}",
                expected=f"a pixel of {height} x {width}, and one of "
                f"{len(self.choices.classes)} classes",
                fix="Click on the image, and choose a class of the list.",
            )
        self._set(replace(self.choices, clicks=clicks))

    def undo(self) -> None:
        """Take the last click back."""
        self._set(replace(self.choices, clicks=self.choices.clicks.undo()))

    def remove(self, row: float, column: float) -> None:
        """Remove the click that is nearest to a pixel."""
        nearest = self.choices.clicks.remove_nearest(row, column)
        self._set(replace(self.choices, clicks=nearest))

    def clear(self) -> None:
        """Remove all clicks."""
        self._set(replace(self.choices, clicks=Clicks()))

    def name_classes(self, classes: Sequence[str]) -> None:
        """Give the classes other names, or add some at the end."""
        names = [name.strip() for name in check_names("classes", classes)]
        if not all(names):
            raise InputError.of(
                "classes", got="an empty name", expected="a word per class", fix="Write one."
            )
        if len(names) < len(self.choices.classes):
            raise InputError.of(
                "classes",
                got=f"{len(names)} names",
                expected=f"{len(self.choices.classes)} or more, as clicks may belong to each",
                fix="Name all classes, new ones last.",
            )
        self._set(replace(self.choices, classes=tuple(names)))

    def choose(self, method: str) -> None:
        """Take another method; its options stand where they were when it was left."""
        self._set(replace(self.choices, method=find(method).name))

    def set_option(self, name: str, value: Any) -> None:
        """Set an option of the method that is chosen."""
        method = self.choices.method
        known = [control.name for control in self.scene.controls(method)]
        if name not in known:
            raise unknown_option(name, method, known)
        own = {**self.choices.moved.get(method, {}), name: value}
        self._set(replace(self.choices, moved={**self.choices.moved, method: own}))

    def reset_options(self) -> None:
        """Set all options of the method that is chosen back to the preset's."""
        moved = {x: y for x, y in self.choices.moved.items() if x != self.choices.method}
        self._set(replace(self.choices, moved=moved))

    def set_radius(self, radius: float) -> None:
        """Let each click mark a disc of so many pixels."""
        self._set(replace(self.choices, radius=check_from_0("radius", radius)))

    def _set(self, choices: Choices) -> None:
        """Take other choices, if they can be computed."""
        before, self.choices = getattr(self, "choices", choices), choices
        try:
            self._compute()
        except BaseException:
            self.choices = before
            raise

    def _compute(self) -> None:
        began, chosen, scores = time.perf_counter(), self.choices, None
        with collect_warnings(shown=False) as doubts:
            if len(set(chosen.clicks.labels.tolist())) > 1:
                start = seed_logits(
                    chosen.clicks.points.to(self._device), chosen.clicks.labels, self.scene.size,
                    classes=len(chosen.classes), grid=self.scene.grid, radius=chosen.radius,
                )  # fmt: skip
                with torch.no_grad():
                    inputs = self.scene.inputs_of(chosen.method)
                    scores = refine(start, **inputs, method=chosen.method, **self.options)
            else:  # to learn now what the method refuses
                find(chosen.method)(**{x: y for x, y in self.options.items() if x != "size"})
        self.scores, self.warnings = scores, doubts
        self.seconds = time.perf_counter() - began

    @property
    def _device(self) -> torch.device:
        feats = self.scene.inputs["feats"]
        return feats.device if isinstance(feats, Tensor) else torch.device("cpu")
