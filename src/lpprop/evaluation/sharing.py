"""Models that run once per image for all predictors that share them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from lpprop._core.errors import collect_warnings, warn
from lpprop._core.measure import time_call

if TYPE_CHECKING:
    from lpprop.backbones import Backbone
    from lpprop.backbones.backbone import BackboneOutput

__all__ = ["SharedCalls"]


class _Call(NamedTuple):
    """A call of a model, its output, and what it cost and said."""

    model: Backbone
    inputs: tuple[Any, ...]
    output: BackboneOutput
    seconds: float
    warnings: list[str]


class SharedCalls:
    """Call models, and remember the calls of the last sample.

    A model that is called again on the same sample, with equal inputs, is not run again: its output
    is the remembered one, to the bit. Segmenters whose `call_model` is one such object share it.

    Attributes:
        borrowed: seconds of the calls that the current block did not have to run.
    """

    def __init__(self) -> None:
        self.borrowed = 0.0
        self._sample: Any = None
        self._calls: list[_Call] = []
        self._active = False

    @contextmanager
    def on(self, sample: Any) -> Iterator[None]:
        """Remember and look up calls within a block, for this sample."""
        if sample is not self._sample:
            self._sample, self._calls = sample, []
        self.borrowed, self._active = 0.0, True
        try:
            yield
        finally:
            self._active = False

    def __call__(self, model: Backbone, *inputs: Any) -> BackboneOutput:
        """Return a model's output, remembered within `on`."""
        output: BackboneOutput
        if not self._active:
            output = model(*inputs)
            return output
        for call in self._calls:
            if call.model is model and _are_equal(call.inputs, inputs):
                self.borrowed += call.seconds
                break
        else:
            with collect_warnings(shown=False) as warnings:
                output, seconds = time_call(partial(model, *inputs), model.device)
            call = _Call(model, inputs, output, seconds, warnings)
            self._calls.append(call)
        for message in call.warnings:
            warn(message, message)  # each predictor's record has them
        return call.output

    def __getstate__(self) -> dict[str, Any]:
        """Leave the calls out when the object goes to another process."""
        return {"borrowed": 0.0, "_sample": None, "_calls": [], "_active": False}


def _are_equal(known: tuple[Any, ...], given: tuple[Any, ...]) -> bool:
    return len(known) == len(given) and all(map(_is_equal, known, given))


def _is_equal(known: Any, given: Any) -> bool:
    if not isinstance(known, Tensor) or not isinstance(given, Tensor):
        return bool(known == given)
    same_kind = (known.dtype, known.device) == (given.dtype, given.device)
    return same_kind and torch.equal(known, given)
