"""Attention between the patches of a transformer, from its queries and keys."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["patch_attention"]


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
