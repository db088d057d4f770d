"""Attention between the patches of a transformer, from its queries and keys, and its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError

__all__ = ["gaussian_bias", "mix_values", "number_blocks", "patch_attention"]


def patch_attention(
    queries: Float[Tensor, "B heads T d"],
    keys: Float[Tensor, "B heads T d"],
    *,
    scale: float,
    prefix: int = 0,
) -> Float[Tensor, "B N N"]:
    """Average softmax(scale Q K^T) over the heads, between patches only.

    The softmax is over all tokens, as in the model. The first `prefix` tokens (class and registers)
    are then dropped, and each row is divided by its remaining sum.

    Args:
        queries: the queries of T tokens, per head.
        keys: their keys. Pass the queries, or the keys, twice for query-query or key-key attention.
        scale: factor of the products, d^-1/2 in most models.
        prefix: number of tokens before the patches.

    Returns:
        (B, N, N), N = T - prefix, rows that sum to 1, in float32 at least.

    >>> q, k = torch.rand(1, 12, 5, 64), torch.rand(1, 12, 5, 64)
    >>> patch_attention(q, k, scale=64**-0.5, prefix=1).shape
    torch.Size([1, 4, 4])
    """
    dtype = torch.promote_types(queries.dtype, torch.float32)
    batch, heads, tokens, _ = queries.shape
    patches = tokens - prefix
    total = torch.zeros(batch, patches, patches, dtype=dtype, device=queries.device)
    for head in range(heads):  # one at a time, since all together would be the largest tensor
        q, k = queries[:, head, prefix:].to(dtype), keys[:, head].to(dtype)
        total += (scale * q @ k.mT).softmax(-1)[..., prefix:]
    return total / total.sum(-1, keepdim=True)


def number_blocks(blocks: Sequence[int] | str, count: int) -> tuple[int, ...]:
    """Return the numbers, counted from 0, of blocks that are counted from either end."""
    if isinstance(blocks, str) and blocks == "all":
        return tuple(range(count))
    given = list(blocks) if isinstance(blocks, (list, tuple, range)) else []
    whole = [int(n) for n in given if isinstance(n, Integral) and not isinstance(n, bool)]
    numbers = [n % count for n in whole if -count <= n < count]
    if not numbers or len(set(numbers)) != len(given):
        raise InputError.of(
            "blocks",
            got=repr(blocks),
            expected=f"'all', or different numbers from 0 to {count - 1}, or from -1 to {-count}",
            fix="Pass blocks=(-1,) for the last one.",
        )
    return tuple(numbers)


def mix_values(
    compared: list[dict[str, Tensor]],
    pairs: Sequence[tuple[str, str]],
    values: Float[Tensor, "b T d"],
    heads: int,
    scale: float,
    near: Float[Tensor, "N T"] | None,
) -> Float[Tensor, "b N d"]:
    """Average values by attention, head by head, per patch.

    The attention is the mean over blocks of the sum over pairs of softmax(scale Q K^T + near).
    """
    batch, tokens, _ = values.shape
    dtype = torch.promote_types(values.dtype, torch.float32)
    mixed = []
    for head in range(heads):
        total = torch.zeros(batch, tokens - 1, tokens, dtype=dtype, device=values.device)
        for vectors in compared:
            for pair in pairs:
                q, k = (vectors[name].unflatten(-1, (heads, -1))[:, :, head] for name in pair)
                products = (scale * q[:, 1:]) @ k.mT
                if near is not None:
                    products = products + near
                total += products.softmax(-1, dtype=dtype)
        v = values.unflatten(-1, (heads, -1))[:, :, head]
        mixed.append((total / len(compared)).to(v.dtype) @ v)
    return torch.cat(mixed, -1)


def gaussian_bias(
    grid: tuple[int, int], std: float, values: Float[Tensor, "b T d"]
) -> Float[Tensor, "N T"]:
    """Return exp(-d^2 / (2 std^2)) from every patch to every patch, and 0 to the class token."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    sides = []
    for side in grid:
        place = torch.arange(side, dtype=torch.float64)
        sides.append((-(((place[:, None] - place) / std) ** 2) / 2).exp().to(values.device, dtype))
    # The Gaussian of d is that of its rows times that of its columns.
    return F.pad(torch.kron(*sides), (1, 0))
