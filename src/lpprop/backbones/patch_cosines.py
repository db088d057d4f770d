"""Cosines between patches and prompts as logits: what MaskCLIP and its kin share."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.options import check_above_0, check_boolean, check_choice
from lpprop.backbones.backbone import BackboneOutput
from lpprop.backbones.class_reader import ClassReader
from lpprop.backbones.prompts import check_templates, read_classes
from lpprop.backbones.sentences import embed_prompts, read_sentences, tokenise
from lpprop.inputs.classes import merge_classes

__all__ = ["PatchCosines", "token_bytes"]


class PatchCosines(ClassReader):
    """A backbone that embeds patches and prompts in one space, and scores by their cosines.

    A subclass says in `_patches` how patches are embedded, and in `_read_text` how sentences are.
    The arguments are those of `MaskCLIP`.
    """

    provides = ("logits", "feats")

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        templates: Sequence[str],
        scores: str,
        logit_scale: float,
        merge: bool,
        **settings: Any,
    ) -> None:
        scores = check_choice("scores", scores, ("softmax", "cosine"))
        merge = check_boolean("merge", merge)
        super().__init__(**settings)
        self.templates = check_templates(templates)
        tokenise(tokenizer, [template.replace("{}", "a") for template in self.templates])
        self.scores = scores
        self.logit_scale = check_above_0("logit_scale", logit_scale)
        self.merge = merge
        self.model = model
        self.tokenizer = tokenizer
        self.requires_grad_(False).eval()

    def groups(self, classes: Sequence[str]) -> list[list[int]]:
        """Return the channels of each class: one, or its prompts where `merge` is off."""
        return super().groups(classes) if self.merge else read_classes(classes).groups

    def _settings(self) -> Hashable:
        return tuple(self.templates)

    def _embed(self, prompts: Sequence[str]) -> Float[Tensor, "Q D"]:
        config = self.model.config.text_config
        each = token_bytes(config, config.max_position_embeddings, self.dtype)
        embed, padding = self._read_text()
        return embed_prompts(
            embed,
            lambda sentences: read_sentences(self.tokenizer, config, sentences),
            prompts,
            self.templates,
            padding=padding,
            tokens_at_once=self.max_bytes // each,
            device=self.device,
        )

    def _see(
        self, pixels: Float[Tensor, "b 3 H W"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        height, width = (side // self.patch_size for side in pixels.shape[-2:])
        patches = self._patches(pixels)
        feats = patches.mT.unflatten(-1, (height, width))
        if classes is None:
            return BackboneOutput((height, width), feats=feats)
        logits = (patches @ self.text_embeddings(classes).mT).mT.unflatten(-1, (height, width))
        if self.scores == "softmax":
            logits = (self.logit_scale * logits).softmax(1)
        if self.merge:
            logits = merge_classes(logits, read_classes(classes).groups)
        return BackboneOutput((height, width), logits=logits, feats=feats)

    def _patches(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b N D"]:
        """Embed the patches in the joint space, with unit length, in float32."""
        raise NotImplementedError

    def _read_text(self) -> tuple[Callable[[Tensor, Tensor], Float[Tensor, "b D"]], int]:
        """Return what embeds tokens with their mask, and the token that pads sentences."""
        raise NotImplementedError


def token_bytes(config: Any, tokens: int, dtype: torch.dtype) -> int:
    """Estimate the activations per token of one block, in its attention or its MLP."""
    hidden = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or int(config.mlp_ratio * hidden)
    values = 2 * hidden + max(4 * hidden, 3 * inner)
    if config._attn_implementation == "eager":
        values += 4 * config.num_attention_heads * tokens
    return int(values * dtype.itemsize)
