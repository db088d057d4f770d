"""Which steps of a method run on the grid, which raise it to pixels, and which run on tiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lpprop._core.errors import InputError
from lpprop._core.refiner import Refiner
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.composite import Composite, step_name
from lpprop.compose.pipeline import as_chain
from lpprop.refiners import (
    BilinearUpsample,
    JointBilateralUpsample,
    PatchPropagation,
    PixelPropagation,
    RegionVote,
)

__all__ = ["Plan", "make_plan"]

# What to do in place of steps that need the whole image.
_ADVICE = {
    "DenseCRF": "Take LocalCRF, the same model within a square: LocalCRF(scale=...).",
    "LocalCRF": "Pass scale= a number, or None for probabilities: 'auto' asks the whole image.",
    "PixelPropagation": "Pass solver='chebyshev', and prune=False.",
}
_ON_GRID = (
    "Run it on the grid by lpprop.refine, with size= the grid's, and pass its result as logits."
)


@dataclass(frozen=True)
class Plan:
    """The steps of a method on a large image.

    Attributes:
        patches: the step on patches, if there is one.
        raise_by: how scores on a grid become those of pixels.
        pixels: the steps on pixels, which have a reach.
        vote: the region vote at the end, if there is one.
    """

    patches: PatchPropagation | None
    raise_by: Refiner
    pixels: tuple[nn.Module, ...]
    vote: RegionVote | None

    @property
    def reach(self) -> int:
        """How far from a pixel those are that its result depends on."""
        return sum(reach_of(step) or 0 for step in self.pixels)

    @staticmethod
    def skips_gaps(step: nn.Module) -> bool:
        """Tell whether a step leaves out pixels that lack data."""
        return isinstance(step, (PixelPropagation, BilinearUpsample))

    def describe(self) -> list[str]:
        """List the steps with their options."""
        steps = (self.patches, self.raise_by, *self.pixels, self.vote)
        return [repr(step) for step in steps if step is not None]


def make_plan(
    method: str | Callable[..., Tensor], options: Mapping[str, Any], *, has_feats: bool
) -> Plan:
    """Sort the steps of a method, and refuse those that need the whole image.

    A preset's pixel step gets solver="chebyshev"; and without feats "auto" has no step on patches.

    Raises:
        InputError: a step without a reach, or steps in another order than these.
    """
    named = isinstance(method, (str, presets.Preset))
    steps = list(_flatten(as_chain(method, **options)))
    if named:
        steps = [_with_fixed_steps(step) for step in steps]
    if named and presets.find(method).name == "auto" and not has_feats:  # type: ignore[arg-type]
        steps = [step for step in steps if not isinstance(step, PatchPropagation)]
    steps = [_with_compiled_code(step) for step in steps]

    patches = vote = None
    raise_by: Refiner = BilinearUpsample()
    if isinstance(steps[0], PatchPropagation):
        patches, steps = steps[0], steps[1:]
    if steps and isinstance(steps[0], (BilinearUpsample, JointBilateralUpsample)):
        raise_by, steps = steps[0], steps[1:]
    if steps and isinstance(steps[-1], RegionVote):
        vote, steps = steps[-1], steps[:-1]
    for step in steps:
        if reach_of(step) is None:
            name = step_name(step)
            advice = "It may stand once, before all other steps." if name in _PLACED else _ON_GRID
            raise InputError.of(
                "method",
                got=f"{name}, whose result at a pixel may depend on every other pixel",
                expected="steps with a reach, so that tiles give what the whole image gives",
                fix=_ADVICE.get(name, advice),
            )
    return Plan(patches, raise_by, tuple(steps), vote)


_PLACED = ("PatchPropagation", "BilinearUpsample", "JointBilateralUpsample")


def reach_of(step: nn.Module) -> int | None:
    """Return how far a step reaches; a step of one's own may say so by an attribute `reach`."""
    function = getattr(step, "function", step)  # a plain function within a chain
    reach: int | None = getattr(function, "reach", None)
    return reach


def _flatten(chain: Chain) -> list[nn.Module]:
    """List the steps, and those of inner chains in their place."""
    steps: list[nn.Module] = []
    for step in chain.steps:
        if isinstance(step, Chain):
            steps += _flatten(step)
        elif isinstance(step, Composite):
            raise InputError.of(
                "method",
                got=type(step).__name__,
                expected="steps one after the other",
                fix=_ON_GRID,
            )
        else:
            steps.append(step)
    return steps


def _with_fixed_steps(step: nn.Module) -> nn.Module:
    if isinstance(step, PixelPropagation):
        return PixelPropagation(**{**step.config, "solver": "chebyshev"})
    return step


def _with_compiled_code(step: nn.Module) -> nn.Module:
    """Name the backend, since each rounds otherwise, and "auto" may take another for each tile."""
    if isinstance(step, Refiner) and step.config.get("backend") == "auto":
        return type(step)(**{**step.config, "backend": "llvm"})
    return step
