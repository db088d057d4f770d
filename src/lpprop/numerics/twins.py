"""Identical classes get identical results.

A product of matrices may round a row by where it stands among the others. Two classes of the same
scores then differ in the last digit, and the argmax takes now one and now the other.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["find_firsts", "match_twins"]

# Values per class that are compared first: classes that differ do so in nearly all of them.
_SAMPLES = 8


def match_twins(
    result: Float[Tensor, "items C *nodes"],
    scores: Float[Tensor, "parts C *places"],
    *,
    joined: bool = False,
) -> Float[Tensor, "items C *nodes"]:
    """Give classes with the same scores everywhere the result of the first of them.

    Gradients stay those of the result, class by class.

    Args:
        result: what a function that treats all classes alike made of the scores.
        scores: the scores, of the same items.
        joined: whether the scores are parts of one image, so that twins are so in all of them.

    >>> scores = torch.tensor([[[1.0, 2.0], [0.0, 1.0], [1.0, 2.0]]])
    >>> match_twins(torch.tensor([[[0.5], [0.2], [0.6]]]), scores).flatten()
    tensor([0.5000, 0.2000, 0.5000])
    """
    with torch.no_grad():
        rows = scores.detach().flatten(2)
        items = [rows.transpose(0, 1).flatten(1)] if joined else list(rows)
        firsts = [find_firsts(item) for item in items]
        if all(first is None for first in firsts):
            return result
        firsts = firsts * len(result) if joined else firsts
        twins = torch.stack([
            values if first is None else values[first]
            for values, first in zip(result.detach(), firsts, strict=True)
        ])  # fmt: skip
    matched: Tensor = _Replace.apply(result, twins)  # type: ignore[no-untyped-call]
    return matched


class _Replace(torch.autograd.Function):
    """The values of one tensor with the derivatives of another."""

    @staticmethod
    def forward(result: Tensor, twins: Tensor) -> Tensor:
        return twins.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return tangent.clone()


def find_firsts(rows: Float[Tensor, "C N"]) -> Int[Tensor, " C"] | None:
    """Return for each row the first that equals it; None if all rows differ.

    >>> find_firsts(torch.tensor([[1.0, 2.0], [0.0, 1.0], [1.0, 2.0]]))
    tensor([0, 1, 0])
    """
    classes, count = rows.shape
    places = torch.linspace(0, count - 1, min(_SAMPLES, count), device=rows.device).long()
    # Few numbers, and not every device sorts rows.
    samples = rows[:, places].cpu()
    if len(samples.unique(dim=0)) == classes:
        return None
    # Rows that are mostly 0 agree at most places: the largest value and its place tell them apart.
    largest, place = rows.max(1, keepdim=True)
    samples = torch.cat([samples, largest.cpu(), place.to(rows.dtype).cpu()], 1)
    _, group, sizes = samples.unique(dim=0, return_inverse=True, return_counts=True)
    if len(sizes) == classes:
        return None
    group, first = group.to(rows.device), torch.arange(classes, device=rows.device)
    for number in (sizes > 1).nonzero().flatten().tolist():
        members = (group == number).nonzero().flatten()
        while len(members) > 1:
            equal = (rows[members] == rows[members[0]]).all(1)
            first[members[equal]] = members[0]
            members = members[~equal]
    return first
