"""What is made of steps: how they are held, called and walked."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.refiner import INPUTS, Refiner

__all__ = ["Composite", "inputs_of", "step_name", "steps_of"]

_Own = TypeVar("_Own", bound="Composite")


class Composite(nn.Module):
    """What is made of steps: their inputs, and the fitting of each to the image.

    Attributes:
        fewest: how many steps there must be.
    """

    fewest = 1

    def __init__(self, *steps: Callable[..., Tensor]) -> None:
        """Take the steps in order."""
        super().__init__()
        if len(steps) < self.fewest:
            raise InputError.of(
                "steps",
                got=str(len(steps)) if steps else "none",
                expected=f"at least {('one', 'two')[self.fewest - 1]}",
                fix="Add a step.",
            )
        for step in steps:
            _check_step(step)
        self.steps = nn.ModuleList(
            step if isinstance(step, nn.Module) else _FunctionStep(step) for step in steps
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """The inputs that some step cannot do without."""
        names = [name for step in self.steps for name in getattr(step, "needs", ())]
        return tuple(dict.fromkeys(names))

    @property
    def merges_windows(self) -> bool:
        """Whether the scores of n windows come back as those of one image."""
        return any(getattr(step, "merges_windows", False) for step in self.steps)

    @property
    def takes(self) -> frozenset[str]:
        """The inputs that some step takes."""
        return frozenset(name for step in steps_of(self) for name in inputs_of(step))

    def fitted(self: _Own, grid: tuple[int, int], pixels: tuple[int, int]) -> _Own:
        """Return this for a feature grid that spans so many pixels: usually itself."""
        steps = [
            step.fitted(grid, pixels) if isinstance(step, (Refiner, Composite)) else step
            for step in self.steps
        ]
        if all(new is old for new, old in zip(steps, self.steps, strict=True)):
            return self
        fitted = copy.copy(self)  # a subclass keeps its own ways
        fitted._modules = {**self._modules, "steps": nn.ModuleList(steps)}
        return fitted

    @staticmethod
    def run(step: nn.Module, logits: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Give a step what it takes, and bring what it returns to a grid."""
        scores: Tensor = step(logits, **{name: inputs[name] for name in inputs_of(step)})
        height, width = logits.shape[-2:]
        if isinstance(scores, Tensor) and scores.ndim == 3 and scores.shape[2] == height * width:
            scores = scores.unflatten(2, (height, width))
        merged = inputs["windows"] is not None and getattr(step, "merges_windows", False)
        if not isinstance(step, (Refiner, Composite)):
            _check_scores(step, scores, batch=1 if merged else len(logits))
        return scores


def inputs_of(step: nn.Module) -> tuple[str, ...]:
    """List the inputs that a step takes; the first three always, the others by its signature."""
    if isinstance(step, Composite):
        return tuple(name for name in INPUTS if name in step.takes)
    function = step.function if isinstance(step, _FunctionStep) else step.forward
    parameters = inspect.signature(function).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return tuple(name for name in INPUTS if takes_any or name in INPUTS[:3] or name in parameters)


def _check_step(step: object) -> None:
    try:
        if not callable(step):
            raise TypeError("it is not callable")
        call = step.forward if isinstance(step, nn.Module) else step
        signature = inspect.signature(call)
        extras = dict.fromkeys(name for name in INPUTS[3:] if name in signature.parameters)
        signature.bind(None, feats=None, image=None, attention=None, **extras)
    except TypeError as error:
        raise InputError.of(
            "steps",
            got=f"{step!r} ({error})",
            expected="callables step(logits, *, feats, image, attention)",
            fix="Pass modules, such as PatchPropagation(), results of presets, such as "
            "presets.lposs(), or functions of that form.",
        ) from None


def _check_scores(step: nn.Module, scores: object, batch: int) -> None:
    try:
        sizes = check_tensors(scores=(scores, "B C h w"))
    except InputError as error:
        raise InputError(f"{step_name(step)} returned unusable {error}") from None
    if sizes["B"] != batch:
        raise InputError.of(
            f"{step_name(step)} returned scores",
            got=f"{sizes['B']} items",
            expected=f"{batch}",
            fix="A step returns one item for each that it is given.",
        )


def step_name(step: nn.Module) -> str:
    """Return what to call a step in an error."""
    function = step.function if isinstance(step, _FunctionStep) else type(step)
    return getattr(function, "__name__", repr(function))


class _FunctionStep(nn.Module):
    """A plain function as a module, so that a chain can hold, show and copy it."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function
        self.merges_windows = getattr(function, "merges_windows", False)
        self.needs = getattr(function, "needs", ())

    def extra_repr(self) -> str:
        return step_name(self)

    def forward(self, logits: Tensor, **inputs: Any) -> Tensor:
        return self.function(logits, **inputs)


def steps_of(composite: Composite) -> Iterable[nn.Module]:
    """Walk the steps, those of inner ones included."""
    for step in composite.steps:
        if isinstance(step, Composite):
            yield from steps_of(step)
        else:
            yield step
