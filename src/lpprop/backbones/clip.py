"""Dense logits of CLIP for classes in words: MaskCLIP, and its variants of the last attention.

Zhou et al., "Extract free dense labels from CLIP", ECCV 2022; Radford et al., "Learning
transferable visual models from natural language supervision", ICML 2021; Wang et al., "SCLIP", ECCV
2024; Lan et al., "ClearCLIP", ECCV 2024; Hajimiri et al., "Pay attention to your neighbours"
(NACLIP), WACV 2025; Chuang et al., "MetaCLIP 2", 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_above_0, check_boolean, check_choice
from lpprop._core.scans import one_call
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.hub import add_stored_colours, load_model, load_tokenizer
from lpprop.backbones.hub_cache import find_commit
from lpprop.backbones.layouts import CLIP
from lpprop.backbones.patch_cosines import PatchCosines, token_bytes
from lpprop.backbones.positions import OffsetPositions, check_offset
from lpprop.backbones.prompts import IMAGENET_TEMPLATES, read_classes
from lpprop.backbones.self_attention import gaussian_bias, mix_values, number_blocks
from lpprop.inputs.classes import merge_classes

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["CHECKPOINTS", "MaskCLIP"]

#: Short names that `MaskCLIP.from_pretrained` knows, with their repositories on the hub. LPOSS and
#: CLIP-DINOiser take LAION's ViT-B/16.
CHECKPOINTS: dict[str, str] = {
    "openai-vitb16": "openai/clip-vit-base-patch16",
    "openai-vitl14": "openai/clip-vit-large-patch14",
    "laion-vitb16": "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
    "metaclip2-vitb16": "facebook/metaclip-2-worldwide-b16",
    "metaclip2-vitl14": "facebook/metaclip-2-worldwide-l14",
}

# The tokenizer of each kind of model; MetaCLIP 2 has that of XLM-R or of mT5.
_TOKENIZERS = {"clip": "CLIPTokenizer", "metaclip_2": "AutoTokenizer"}

# The pairs of projections that the attention compares; the softmaxes of several pairs are added.
_PAIRS: dict[str, tuple[tuple[str, str], ...]] = {
    "value": (),
    "query-key": (("q_proj", "k_proj"),),
    "query-query": (("q_proj", "q_proj"),),
    "key-key": (("k_proj", "k_proj"),),
    "query-query+key-key": (("q_proj", "q_proj"), ("k_proj", "k_proj")),
}

# DSLO's means are over all blocks; the others are of the last one.
_ALL_BLOCKS = ("query-query", "key-key")


class MaskCLIP(PatchCosines):
    """Cosines between the patches of a CLIP model and prompts, as logits.

    The last block of the image encoder is changed so that the output at a patch describes that
    patch. With x the tokens that enter the block and A the attention of each head,

        v = out_proj(A v_proj(layer_norm1(x))) + x,    v = v + mlp(layer_norm2(v))

    then the final layer norm, the projection to the joint space, and unit length. `attention` is A:

    - "value", MaskCLIP: no attention, each patch takes its own value;
    - "query-key": softmax(scale Q K^T), the model's own attention;
    - "query-query", "key-key": softmax(scale Q Q^T), or K K^T;
    - "query-query+key-key": the sum of both, whose rows sum to 2 (SCLIP).

    `blocks` says of which blocks: A is the mean of theirs. By default it is all blocks for
    "query-query" and "key-key", the "q-q mean" and "k-k mean" of DSLO's Table 3, and the last block
    for the others. That paper says "the average attention tensor between queries across all layers"
    and no more. This class takes the softmax before the mean, averages head h with the heads h of
    the other blocks, leaves their Q as in the unchanged model, and changes the last block only.

    `gaussian_std` adds exp(-d^2 / (2 gaussian_std^2)) to the products of two patches before the
    softmax, with their distance d in patches, and nothing to those with the class token (NACLIP).

    `residual=False` leaves out "+ x" and the MLP, as MaskCLIP's paper words it. The default keeps
    both, as the code of MaskCLIP, LPOSS and CLIP-DINOiser does. DSLO does not say.

    - MaskCLIP: the defaults.
    - SCLIP: `attention="query-query+key-key"`.
    - ClearCLIP: `attention="query-query", blocks=(-1,), residual=False`.
    - NACLIP: `attention="key-key", blocks=(-1,), residual=False, gaussian_std=5`.

    The code of the last three also has `position_offset=0.1`.

    Logits are the cosines, or softmax(logit_scale x cosines) over the prompts of all classes at
    once; then each class takes the best of its synonyms. So "background = sky; wall" wins where one
    of its words wins, and many words do not dilute it, as they would by a mean. The embedding of a
    prompt is the mean of its embeddings in all templates, each of unit length. With softmax, the
    scores of classes with synonyms need not sum to 1, and a single prompt scores 1 everywhere.

    LPOSS propagates the cosines of prompts, and merges them afterwards: pass `scores="cosine",
    merge=False`, and call `lpprop.merge_classes(scores, parse_classes(classes).groups)` at the end.

    MetaCLIP 2 has CLIP's blocks, and reads classes in 300 languages. This class has been run with
    random weights of `CLIPModel` and `MetaClip2Model`, and not yet with trained ones.

    Args:
        model: a `transformers.CLIPModel` or `MetaClip2Model`; it is frozen and put into evaluation
            mode.
        tokenizer: its tokenizer: a `transformers.CLIPTokenizer`, or MetaCLIP 2's.
        attention: attention of the last block, see above.
        blocks: blocks whose attention is averaged, counted from 0, or backwards from -1; or "all".
            The default, None, is described above.
        gaussian_std: > 0, in patches; None for no Gaussian.
        residual: whether the last block adds its input and runs its MLP.
        position_offset: >= 0 and < 1. From m to n patches, position embeddings are resized with the
            scale (n + position_offset) / m; transformers take 0, the default.
        templates: sentences with one "{}" each.
        scores: "softmax" or "cosine".
        logit_scale: > 0, factor of the cosines before the softmax.
        merge: whether the logits are per class; else per prompt, in the order of `parse_classes`.
        mean, std: mean and standard deviation of the colours that the weights were trained on.
        max_bytes: bound on the activations of one batch of images or prompts.

    Raises:
        InputError: another kind of model or tokenizer, or an unknown option.

    >>> from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
    >>> letters = ["<|startoftext|>", "<|endoftext|>", *"acdo", "a</w>", "t</w>", "g</w>"]
    >>> tokenizer = CLIPTokenizer(vocab={text: i for i, text in enumerate(letters)}, merges=[])
    >>> tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    >>> config = CLIPConfig(text_config={**tiny, "vocab_size": len(letters), "eos_token_id": 1},
    ...                     vision_config={**tiny, "patch_size": 16}, projection_dim=24)
    >>> backbone = MaskCLIP(CLIPModel(config), tokenizer, templates=["a {}"])
    >>> grid, logits, feats, _ = backbone(torch.rand(1, 3, 70, 96), ["cat", "dog"])
    >>> grid, logits.shape, feats.shape
    ((5, 6), torch.Size([1, 2, 5, 6]), torch.Size([1, 24, 5, 6]))
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        attention: str = "value",
        blocks: Sequence[int] | Literal["all"] | None = None,
        gaussian_std: float | None = None,
        residual: bool = True,
        position_offset: float = 0.0,
        templates: Sequence[str] = IMAGENET_TEMPLATES,
        scores: str = "softmax",
        logit_scale: float = 100.0,
        merge: bool = True,
        mean: Sequence[float] = CLIP.mean,
        std: Sequence[float] = CLIP.std,
        max_bytes: int = 2**30,
    ) -> None:
        attention = check_choice("attention", attention, tuple(_PAIRS))
        residual = check_boolean("residual", residual)
        if gaussian_std is not None:
            gaussian_std = check_above_0("gaussian_std", gaussian_std)
        for name, value in (("blocks", blocks), ("gaussian_std", gaussian_std)):
            if attention == "value" and value is not None:
                raise InputError.of(
                    name,
                    got=f"{value!r} beside attention='value'",
                    expected="None, since each patch takes its own value",
                    fix=f"Leave {name} out, or choose another attention.",
                )
        _check_model(model)
        config = model.config.vision_config
        super().__init__(
            model,
            tokenizer,
            templates=templates,
            scores=scores,
            logit_scale=logit_scale,
            merge=merge,
            patch_size=config.patch_size,
            mean=mean,
            std=std,
            max_bytes=max_bytes,
        )
        self.attention = attention
        if blocks is None:
            blocks = "all" if attention in _ALL_BLOCKS else (-1,)
        self.blocks = number_blocks(blocks, config.num_hidden_layers)
        self.gaussian_std = gaussian_std
        self.residual = residual
        self.position_offset = check_offset("position_offset", position_offset)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        download: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> MaskCLIP:
        """Load a model, its tokenizer and its colours; see `Backbone.from_pretrained`.

        `CHECKPOINTS` has the short names. Mean and std come from the checkpoint, unless they are
        among the options.
        """
        checkpoint = find_checkpoint(checkpoint, CHECKPOINTS, revision)
        load = partial(load_model, "transformers", "AutoModel", checkpoint, dtype=dtype)
        model = load(download=download, revision=revision)
        _check_model(model)
        commit = find_commit(checkpoint, revision)
        source: dict[str, Any] = {"download": download, "revision": commit or revision}
        kind = _TOKENIZERS[model.config.model_type]
        tokenizer = load_tokenizer(checkpoint, name=kind, **source)
        backbone = cls(model, tokenizer, **add_stored_colours(options, checkpoint, **source))
        backbone.commit = commit
        return backbone

    @torch.no_grad()
    def image_scores(
        self, image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image, classes: Sequence[str]
    ) -> Float[Tensor, "B C"]:
        """Score classes for whole images: CLIP's cosines of image and prompts, the best synonym's.

        They are `global_scores` for `lpprop.select_classes`. The unchanged model sees the whole
        image, in its aspect ratio.

        Raises:
            InputError: an image or classes that cannot be used, as in `forward`.
        """
        with one_call():
            tensor = self._take(image)
            self.class_names(classes)
            pixels = self._prepare(tensor)
            size = pixels.shape[-2], pixels.shape[-1]
            self._check_memory(size)
            at_once = max(1, self.max_bytes // self._item_bytes(size))
            parts = [self._embed_image(part.to(self.dtype)) for part in pixels.split(at_once)]
            cosines = torch.cat(parts) @ self.text_embeddings(classes).mT
            return merge_classes(cosines, read_classes(classes).groups)

    def _embed_image(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b D"]:
        with OffsetPositions(self.position_offset):
            pooled = self.model.vision_model(pixels, interpolate_pos_encoding=True).pooler_output
        return F.normalize(self.model.visual_projection(pooled).float(), dim=-1)

    def _patches(self, pixels: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b N D"]:
        """Embed the patches in the joint space, with unit length."""
        vision = self.model.vision_model
        with OffsetPositions(self.position_offset):
            x = vision.embeddings(pixels, interpolate_pos_encoding=True)
        x = vision.pre_layrnorm(x)
        pairs, compared = _PAIRS[self.attention], []
        names = {name for pair in pairs for name in pair}
        for number, block in enumerate(vision.encoder.layers):
            if names and number in self.blocks:
                compared.append(_project(block, x, names))
            if block is not vision.encoder.layers[-1]:
                x = block(x, attention_mask=None)
        attention = block.self_attn
        v = _project(block, x, {"v_proj"})["v_proj"]
        if names:
            height, width = (side // self.patch_size for side in pixels.shape[-2:])
            near = (
                gaussian_bias((height, width), self.gaussian_std, v) if self.gaussian_std else None
            )
            v = mix_values(compared, pairs, v, attention.num_heads, attention.scale, near)
        else:
            v = v[:, 1:]
        v = attention.out_proj(v)
        if self.residual:
            v = v + x[:, 1:]
            v = v + block.mlp(block.layer_norm2(v))
        return F.normalize(self.model.visual_projection(vision.post_layernorm(v)).float(), dim=-1)

    def _read_text(self) -> tuple[Callable[[Tensor, Tensor], Float[Tensor, "b D"]], int]:
        text, project = self.model.text_model, self.model.text_projection
        # Attention is causal and the embedding is read at the end token: padding has no influence.
        return lambda ids, _: project(
            text(input_ids=ids).pooler_output
        ), self.tokenizer.eos_token_id

    def _item_bytes(self, size: tuple[int, int]) -> int:
        config = self.model.config.vision_config
        tokens = size[0] * size[1] // self.patch_size**2 + 1
        item = 3 * size[0] * size[1] * 8 + tokens * token_bytes(config, tokens, self.dtype)
        if self.attention != "value":  # the projections of each block; products, softmax and sum
            kept = len(self.blocks) * len(_PAIRS[self.attention])
            item += 2 * kept * tokens * config.hidden_size * self.dtype.itemsize
            item += (4 if self.gaussian_std is None else 6) * 4 * tokens**2
        return item


def _check_model(model: Any) -> None:
    """Refuse a model that has other blocks than CLIP, or no projections."""
    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in _TOKENIZERS or not hasattr(model, "visual_projection"):
        raise InputError.of(
            "model",
            got=type(model).__name__,
            expected="a transformers.CLIPModel or MetaClip2Model",
            fix="Load one with MaskCLIP.from_pretrained.",
        )


def _project(block: Any, x: Float[Tensor, "b T d"], names: set[str]) -> dict[str, Tensor]:
    normed = block.layer_norm1(x)
    return {name: getattr(block.self_attn, name)(normed) for name in names}
