"""Read queries, keys and values where a vision transformer attends with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lpprop._core.errors import InputError
from lpprop.backbones.self_attention import patch_attention

__all__ = ["SeenBlocks"]


class SeenBlocks(TorchFunctionMode):
    """Reads from each block what is wanted, within `with` and in this thread only.

    Args:
        model: the model that runs within `with`; it attends by scaled dot product attention.
        shape: number of images and of tokens, those before the patches included.
        prefix: number of tokens before the patches.
        features: which of "query", "key" and "value" of the last block is kept, if any is.
        attention: pair of vectors whose attention is kept, such as "query-key"; or None.
        blocks: blocks whose attention is averaged, counted from 0.

    Attributes:
        seen: number of blocks that have attended.
    """

    def __init__(
        self,
        model: Any,
        shape: tuple[int, int],
        *,
        prefix: int,
        features: str | None,
        attention: str | None,
        blocks: Collection[int],
    ) -> None:
        super().__init__()
        self.model, self.shape, self.prefix = model, shape, prefix
        self.wanted, self.pair, self.blocks = features, attention, blocks
        self.seen = 0
        self.feats: Float[Tensor, "b D N"] | None = None
        self.attention: Float[Tensor, "b N N"] | None = None

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Collection[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            self._look(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _look(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,
    ) -> None:
        last = self.model.config.num_hidden_layers - 1
        # A pooling head attends too, but from one token, and after the last block.
        pools = self.shape[1] == 1 and self.seen > last
        if (query.shape[0], query.shape[-2]) != self.shape or key.shape != query.shape or pools:
            return
        vectors = {"query": query, "key": key, "value": value}
        if self.seen == last and self.wanted in vectors:
            self.feats = vectors[self.wanted][:, :, self.prefix :].mT.flatten(1, 2)
        if self.pair is not None and self.seen in self.blocks:
            if attn_mask is not None or is_causal:
                raise InputError.of(
                    "attention",
                    got=f"{type(self.model).__name__}, whose attention has a bias or a mask",
                    expected="a softmax of the products of queries and keys alone",
                    fix="Take its features, with attention=None.",
                )
            pair = (vectors[name] for name in self.pair.split("-"))
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            found = patch_attention(*pair, scale=scale, prefix=self.prefix).div_(len(self.blocks))
            self.attention = found if self.attention is None else self.attention.add_(found)
        self.seen += 1
