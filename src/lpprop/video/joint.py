"""The patch step of one frame, over the graph that joins it with the frames around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.compose.chain import Chain
from lpprop.compose.composite import step_name
from lpprop.compose.request import Prepared, Request
from lpprop.refiners import PatchPropagation, bilinear_upsample

__all__ = ["Frame", "check_method", "refine_joined"]


class Frame(NamedTuple):
    """A frame that is checked and fitted, ready to be joined with others.

    Attributes:
        time: when it was seen.
        prepared: its call, as if it stood alone.
        scores: (n, C, h, w) its logits on the grid of its feats; n is 1 without windows.
    """

    time: float
    prepared: Prepared
    scores: Tensor

    @classmethod
    def of(cls, time: float, request: Request, chain: Chain) -> Frame:
        """Fit a chain to a frame."""
        prepared = request.prepare(chain)
        scores, feats = prepared.request.logits, request.inputs.get("feats")
        grid = scores.shape[-2:] if feats is None else feats.shape[-2:]
        if scores.shape[-2:] != grid:
            scores = bilinear_upsample(scores, (grid[0], grid[1]))
        return cls(time, prepared, scores)


class _JoinedPropagation(PatchPropagation):
    """Propagate over the patches of several frames, and return the scores of one of them."""

    def join(self, frames: Sequence[Frame], centre: int) -> _JoinedPropagation:
        self.frames, self.centre = frames, centre
        return self

    def check_room(self, logits: Tensor, inputs: Any) -> None:
        """Leave it to `propagate_patches`, which sees all frames before it does any work."""

    def forward(self, logits: Tensor, **inputs: Any) -> Tensor:
        frames, items, windows = self.frames, len(logits), inputs.get("windows")
        times = torch.tensor([frame.time for frame in frames], dtype=torch.float64)
        refined = super().forward(
            torch.cat([frame.scores for frame in frames]),
            feats=torch.cat([frame.prepared.request.inputs["feats"] for frame in frames]),
            windows=None if windows is None else windows.boxes.repeat(len(frames), 1),
            # Counted from the centre, since late times in float32 have no digits left.
            times=(times - times[self.centre]).to(logits).repeat_interleave(items),
        )
        return refined[self.centre * items : (self.centre + 1) * items]


def check_method(chain: Chain) -> None:
    """Refuse a method whose first step is not patch propagation, which the frames share.

    Raises:
        InputError: such a method.
    """
    first = _first(chain)
    if not isinstance(first, PatchPropagation):
        raise InputError.of(
            "method",
            got=f"one whose first step is {step_name(first)}",
            expected="one that begins with patch propagation, whose graph joins the frames: "
            '"auto", "lposs", "lposs+", "lposs+regions", or a Chain of your own',
            fix="With this method, pass window=1, which refines frame by frame.",
        )


def refine_joined(frames: Sequence[Frame], centre: int) -> Tensor:
    """Refine one of several frames, its patch step over the patches of all of them."""
    prepared = frames[centre].prepared
    if len(frames) > 1:
        step = _first(prepared.chain)
        joined = _JoinedPropagation(**step.config).join(frames, centre)
        prepared = Prepared(_replace_first(prepared.chain, joined), prepared.request)
    return prepared.request.finish(prepared.run())


def _first(chain: Chain) -> Any:
    step = chain.steps[0]
    return _first(step) if isinstance(step, Chain) else step


def _replace_first(chain: Chain, new: PatchPropagation) -> Chain:
    first, *others = chain.steps
    if isinstance(first, Chain):
        return chain.with_steps([_replace_first(first, new), *others])
    return chain.with_steps([new, *others])
