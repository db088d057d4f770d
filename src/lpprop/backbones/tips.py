"""Dense logits of TIPS for classes in words: MaskCLIP's change of the last block.

Maninis et al., "TIPS: Text-image pretraining with spatial awareness", ICLR 2025; Cao et al.,
"TIPSv2: Advancing vision-language pretraining with enhanced patch-text alignment", CVPR 2026; Zhou
et al., "Extract free dense labels from CLIP", ECCV 2022.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.hub import add_stored_colours, load_model, load_tokenizer
from lpprop.backbones.hub_cache import find_commit
from lpprop.backbones.layouts import count_prefix
from lpprop.backbones.patch_cosines import PatchCosines, token_bytes
from lpprop.backbones.prompts import IMAGENET_BEST

__all__ = ["CHECKPOINTS", "TCL_TEMPLATES", "MaskTIPS"]

#: Short names that `MaskTIPS.from_pretrained` knows, with their repositories on the hub.
CHECKPOINTS: dict[str, str] = {
    "tipsv2-vitb14": "google/tipsv2-b14",
    "tipsv2-vitl14": "google/tipsv2-l14",
    "tipsv2-so400m14": "google/tipsv2-so400m14",
    "tipsv2-vitg14": "google/tipsv2-g14",
}

#: The nine sentences with which TIPS's authors segment: those of Cha et al., "Learning to generate
#: text-grounded mask" (TCL), CVPR 2023.
TCL_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of a {}.",
    *IMAGENET_BEST[2:],
    "a photo of many {}.",
    "a photo of {}s.",
)


class MaskTIPS(PatchCosines):
    """Cosines between the patches of TIPS v2 and prompts, as logits.

    With x the tokens that enter the last block, a patch is embedded by its own value, as its
    authors do for zero-shot segmentation: MaskCLIP's rule, with TIPS's layer scales,

        v = scale1(o_proj(v_proj(norm1(x)))) + x,    v = v + scale2(mlp(norm2(v)))

    then the final layer norm and unit length; images and texts share the encoders' own space, and
    there is no projection. Logits are made of the cosines as in `MaskCLIP`: by default by a softmax
    over all prompts, with the inverse of the model's temperature as the factor.

    SigLIP 2 has no such class: its attention pooling is a head of its own, with a residual MLP
    behind it, and we know of no published rule that embeds a patch through it.

    This class has been run with random weights of `Tipsv2Model`, and not yet with trained ones.

    Args:
        model: a `transformers.Tipsv2Model`; it is frozen and put into evaluation mode.
        tokenizer: its `transformers.Tipsv2Tokenizer`.
        templates: sentences with one "{}" each.
        scores: "softmax" or "cosine".
        logit_scale: > 0, factor of the cosines before the softmax; None for 1 / temperature.
        merge: whether the logits are per class; else per prompt, in the order of `parse_classes`.
        mean, std: mean and standard deviation of the colours that the weights were trained on: TIPS
            takes colours as they are, in [0, 1].
        max_bytes: bound on the activations of one batch of images or prompts.

    Raises:
        InputError: another kind of model or tokenizer, or an unknown option.

    >>> from transformers import Tipsv2Config, Tipsv2Model, Tipsv2Tokenizer
    >>> tokenizer = Tipsv2Tokenizer(vocab={"<pad>": 0, "<unk>": 1, "a": 2})
    >>> tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> config = Tipsv2Config(text_config={**tiny, "vocab_size": 3}, vision_config=tiny)
    >>> backbone = MaskTIPS(Tipsv2Model(config), tokenizer)
    >>> grid, logits, feats, _ = backbone(torch.rand(1, 3, 70, 84), ["cat", "dog"])
    >>> grid, logits.shape, feats.shape
    ((5, 6), torch.Size([1, 2, 5, 6]), torch.Size([1, 32, 5, 6]))
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        templates: Sequence[str] = TCL_TEMPLATES,
        scores: str = "softmax",
        logit_scale: float | None = None,
        merge: bool = True,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        max_bytes: int = 2**30,
    ) -> None:
        _check_model(model)
        super().__init__(
            model,
            tokenizer,
            templates=templates,
            scores=scores,
            logit_scale=1 / float(model.temperature.detach())
            if logit_scale is None
            else logit_scale,
            merge=merge,
            patch_size=model.config.vision_config.patch_size,
            mean=mean,
            std=std,
            max_bytes=max_bytes,
        )

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        download: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> MaskTIPS:
        """Load a model, its tokenizer and its colours; see `Backbone.from_pretrained`.

        `CHECKPOINTS` has the short names. A tokenizer that is stored as a SentencePiece model alone
        needs the package sentencepiece.
        """
        checkpoint = find_checkpoint(checkpoint, CHECKPOINTS, revision)
        source: dict[str, Any] = {"download": download, "revision": revision}
        model = load_model("transformers", "Tipsv2Model", checkpoint, dtype=dtype, **source)
        commit = find_commit(checkpoint, revision)
        source["revision"] = commit or revision
        tokenizer = load_tokenizer(checkpoint, name="Tipsv2Tokenizer", **source)
        backbone = cls(model, tokenizer, **add_stored_colours(options, checkpoint, **source))
        backbone.commit = commit
        return backbone

    def _patches(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b N D"]:
        vision = self.model.vision_model
        x = vision.embeddings(pixels)
        *others, last = vision.encoder.layer
        for block in others:
            x = block(x)
        x = x[:, count_prefix(vision.embeddings) :]
        own = last.attention.o_proj(last.attention.v_proj(last.norm1(x)))
        v = last.layer_scale1(own) + x
        v = last.layer_scale2(last.mlp(last.norm2(v))) + v
        return F.normalize(vision.layernorm(v).float(), dim=-1)

    def _read_text(self) -> tuple[Callable[[Tensor, Tensor], Float[Tensor, "b D"]], int]:
        text, padding = self.model.text_model, int(self.tokenizer.pad_token_id)
        # The embedding is the mean over the tokens under the mask, so padding has no influence.
        return lambda ids, mask: text(input_ids=ids, attention_mask=mask).pooler_output, padding

    def _item_bytes(self, size: tuple[int, int]) -> int:
        config = self.model.config.vision_config
        tokens = size[0] * size[1] // self.patch_size**2 + 1 + int(config.num_register_tokens)
        return 3 * size[0] * size[1] * 8 + tokens * token_bytes(config, tokens, self.dtype)


def _check_model(model: Any) -> None:
    if getattr(getattr(model, "config", None), "model_type", None) != "tipsv2":
        raise InputError.of(
            "model",
            got=type(model).__name__,
            expected="a transformers.Tipsv2Model",
            fix="Load one with MaskTIPS.from_pretrained.",
        )
