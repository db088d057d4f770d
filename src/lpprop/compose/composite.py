"""Base class of refiners composed of steps."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from lpprop._core.checks import check_tensors, require
from lpprop._core.errors import InputError
from lpprop._core.refiner import COMMON, Refiner, check_ignored, unknown_input
from lpprop._core.scans import forget, pass_on
from lpprop.inputs.table import INPUTS

__all__ = ["Composite", "Takes", "missing_input", "needs_of", "step_name", "steps_of", "takes_of"]


_Own = TypeVar("_Own", bound="Composite")


@dataclass(frozen=True)
class Takes:
    """The inputs that a step takes, by name.

    Attributes:
        names: inputs that it names.
        required: those without a default, which are passed as None if they are not given.
        all: whether it also takes any other input, by `**inputs`.
    """

    names: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    all: bool = False

    def __contains__(self, name: object) -> bool:
        """Tell whether the step takes an input of this name."""
        return self.all or name in self.names

    def pick(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keywords to call the step with; its defaults stand for inputs not given."""
        given = {name: x for name, x in inputs.items() if x is not None and name in self}
        return dict.fromkeys(self.required) | given


class Composite(nn.Module):
    """A refiner made of steps: it knows their inputs, and fits each step to the image.

    Attributes:
        fewest: the smallest number of steps.
    """

    fewest = 1
    __call__: Callable[..., Tensor]

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
        self.steps = nn.ModuleList(_as_module(step) for step in steps)

    @property
    def needs(self) -> tuple[str, ...]:
        """The inputs that some step requires."""
        return tuple(dict.fromkeys(name for step in self.steps for name in needs_of(step)))

    @property
    def takes(self) -> Takes:
        """The inputs that some step takes."""
        each = [takes_of(step) for step in self.steps]
        names = frozenset().union(*(one.names for one in each))
        return Takes(names, all=any(one.all for one in each))

    @property
    def merges_windows(self) -> bool:
        """Whether some step turns the scores of n windows into those of one image."""
        return any(getattr(step, "merges_windows", False) for step in self.steps)

    def fitted(self: _Own, grid: tuple[int, int], pixels: tuple[int, int]) -> _Own:
        """Return this with its steps adapted to a feature grid that spans the pixels."""
        return self.with_steps(
            step.fitted(grid, pixels) if isinstance(step, (Refiner, Composite)) else step
            for step in self.steps
        )

    def with_steps(self: _Own, steps: Iterable[nn.Module]) -> _Own:
        """Return a copy with other steps, or itself if the steps are the same."""
        steps = list(steps)
        if all(new is old for new, old in zip(steps, self.steps, strict=True)):
            return self
        changed = copy.copy(self)  # which keeps the attributes of a subclass
        changed._modules = {**self._modules, "steps": nn.ModuleList(steps)}
        return changed

    def check_known(self, inputs: Mapping[str, Any]) -> None:
        """Refuse an input that no step takes, except for common ones, meant for other methods."""
        for name, value in inputs.items():
            # Windows are checked step by step, until they are merged.
            known = name in (*COMMON, "windows") or name in self.takes
            if name in COMMON:
                check_ignored(name, value)
            if value is not None and not known:
                takes = sorted(self.takes.names - set(COMMON))
                raise unknown_input(name, "this method", takes, known=name in INPUTS)

    @staticmethod
    def run(step: nn.Module, logits: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Call a step with the inputs that it takes, and put its scores on their grid."""
        for name in needs_of(step):
            if name not in INPUTS:  # steps ask for those by themselves, or can build them
                require(name, inputs.get(name))
        scores: Tensor = step(logits, **takes_of(step).pick(inputs))
        height, width = logits.shape[-2:]
        if isinstance(scores, Tensor) and scores.ndim == 3 and scores.shape[2] == height * width:
            scores = pass_on(scores, scores.unflatten(2, (height, width)))
        merged = inputs.get("windows") is not None and getattr(step, "merges_windows", False)
        if not isinstance(step, (Refiner, Composite)):
            forget()
            _check_scores(step, scores, batch=1 if merged else len(logits))
        return scores


def takes_of(step: nn.Module) -> Takes:
    """Return the inputs that a step takes: those that it declares, or that its signature names."""
    if isinstance(step, Composite):
        return step.takes
    parameters = list(inspect.signature(_call_of(step)).parameters.values())
    if not parameters:
        raise TypeError("it takes no scores")
    named = [x for x in parameters[1:] if x.kind in (x.KEYWORD_ONLY, x.POSITIONAL_OR_KEYWORD)]
    names = frozenset(x.name for x in named)
    required = frozenset(x.name for x in named if x.default is x.empty)
    if isinstance(step, Refiner):  # whose `**inputs` refuse what it does not declare
        return Takes(names.union(step.takes), required)
    return Takes(names, required, all=any(x.kind is x.VAR_KEYWORD for x in parameters))


def needs_of(step: nn.Module) -> tuple[str, ...]:
    """Return the inputs that a step requires by its `needs` and by its signature.

    An input that lpprop knows may be None, unless the step declares that it needs it.
    """
    declared: tuple[str, ...] = getattr(step, "needs", ())
    required = takes_of(step).required
    return (*declared, *sorted(required - {*declared, *INPUTS}))


def steps_of(composite: Composite) -> Iterator[nn.Module]:
    """Yield the steps, and those of inner composites in their place."""
    for step in composite.steps:
        if isinstance(step, Composite):
            yield from steps_of(step)
        else:
            yield step


def step_name(step: nn.Module) -> str:
    """Return the name of a step, for errors."""
    function = step.function if isinstance(step, _FunctionStep) else type(step)
    return getattr(function, "__name__", repr(function))


def missing_input(method: object, given: Collection[str]) -> str:
    """Return the first needed input that is not given, or "".

    >>> import lpprop
    >>> missing_input(lpprop.presets.kl, ["image"]), missing_input(lpprop.OptimalPath(), [])
    ('', 'attention or feats')
    """
    for name in getattr(method, "needs", ()):
        # Attention can be built from feats.
        sources = ("attention", "feats") if name == "attention" else (name,)
        if not set(sources) & set(given):
            return " or ".join(sources)
    return ""


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


def _call_of(step: nn.Module) -> Callable[..., Tensor]:
    call: Callable[..., Tensor] = step.function if isinstance(step, _FunctionStep) else step.forward
    return call


def _as_module(step: Callable[..., Tensor]) -> nn.Module:
    """Return a step as a module; refuse what cannot be called with scores and inputs by name."""
    try:
        if not callable(step) or isinstance(step, type):
            raise TypeError("a class" if callable(step) else "it is not callable")
        module = step if isinstance(step, nn.Module) else _FunctionStep(step)
        if not isinstance(module, (Refiner, Composite)):
            needs = getattr(module, "needs", ())
            if not isinstance(needs, (tuple, list)):
                raise TypeError(f"its needs are {needs!r}, not a tuple of names")
            names = {*takes_of(module).required, *needs}
            if reserved := names & {"logits", "method", "self", "size", "span"}:
                raise TypeError(f"it names {min(reserved)!r}, which lpprop.refine takes itself")
            inspect.signature(_call_of(module)).bind(None, **dict.fromkeys(names))
    except (TypeError, ValueError) as error:
        raise InputError.of(
            "steps",
            got=f"{step!r} ({error})",
            expected="callables step(logits, *, ...), whose keywords name the inputs they take",
            fix="Pass modules, such as PatchPropagation(), results of presets, such as "
            "presets.lposs(), or functions of that form; wrap a builtin in a lambda.",
        ) from None
    return module


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
            fix="A step returns one item per item that it gets.",
        )
