"""Features and self-attention of Hugging Face's vision transformers, such as DINO and DINOv2.

Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021; Oquab et al.,
"DINOv2", TMLR 2024; Darcet et al., "Vision transformers need registers", ICLR 2024; Siméoni et al.,
"DINOv3", 2025.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lpprop._core.errors import InputError
from lpprop._core.options import check_choice
from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.hub import add_stored_colours, load_model
from lpprop.backbones.hub_cache import find_commit
from lpprop.backbones.layouts import (
    Layout,
    check_architecture,
    count_prefix,
    find_layout,
    own_colours,
    wrong_architecture,
)
from lpprop.backbones.positions import OffsetPositions, check_offset
from lpprop.backbones.seen_blocks import SeenBlocks
from lpprop.backbones.self_attention import number_blocks

__all__ = ["CHECKPOINTS", "VisionTransformer"]

#: Short names that `VisionTransformer.from_pretrained` knows, with their repositories on the hub.
CHECKPOINTS: dict[str, str] = {
    "dino-vitb16": "facebook/dino-vitb16",
    "dino-vitb8": "facebook/dino-vitb8",
    "dinov2-vits14": "facebook/dinov2-small",
    "dinov2-vitb14": "facebook/dinov2-base",
    "dinov2-vitb14-registers": "facebook/dinov2-with-registers-base",
    "dinov3-vitb16": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "radio-v4-h": "nvidia/C-RADIOv4-H",
    "siglip2-vitb16": "google/siglip2-base-patch16-224",
    "siglip2-vitb16-naflex": "google/siglip2-base-patch16-naflex",
    "tipsv2-vitb14": "google/tipsv2-b14",
}

_FEATURES = ("value", "key", "query", "token")
_ATTENTION = ("query-key", "query-query", "key-key")

_FEATS_FROM = {
    ("vit", 16): "vit-b/16",
    ("vit", 8): "vit-b/8",
    ("dinov2", 14): "dinov2",
    ("dinov2_with_registers", 14): "dinov2",
}


class VisionTransformer(Backbone):
    """Features of the last block and self-attention of any block, for the patches only.

    Queries, keys and values are read where the model passes them to PyTorch's scaled dot product
    attention. So they are the ones with which the model attends: after its biases, its norms and,
    where it has one, its rotary position embedding. Class and summary tokens and registers are left
    out. The model itself resizes its position embeddings. Threads may share one model.

    This class has been run with random weights of `ViTModel`, `DeiTModel`, `Dinov2Model`,
    `Dinov2WithRegistersModel`, `DINOv3ViTModel`, `BeitModel`, `IJepaModel`, `ViTMSNModel`,
    `CLIPVisionModel`, `MetaClip2VisionModel`, `SiglipVisionModel`, `Siglip2VisionModel`,
    `Tipsv2VisionModel` and `RadioModel`, and with the trained ones of DINOv2 ViT-S/14. A model of
    another architecture is refused, at the latest at the first image.

    Args:
        model: a model of `transformers`; it is frozen and put into evaluation mode.
        features: "value", "key" or "query" of the last block, all heads concatenated, before the
            output projection; or "token", the model's `last_hidden_state`, which CLIP and BEiT
            return before a last layer norm, and RADIO, which has none, as its spatial features; or
            None, for attention only. LPOSS takes DINO's values.
        attention: "query-key", which is the model's own, "query-query" or "key-key"; or None.
        blocks: blocks whose attention is averaged, counted from 0, or backwards from -1; or "all".
        position_offset: >= 0 and < 1. From m to n patches, position embeddings are resized with the
            scale (n + position_offset) / m. transformers take 0, the default; the original DINO,
            and DINOv2 without registers, take 0.1. For models that resize bicubically.
        mean, std: mean and standard deviation of the colours that the weights were trained on. By
            default CLIP's for CLIP and MetaCLIP 2, 0.5 for SigLIP and SigLIP 2, none (0 and 1) for
            TIPS, ImageNet's for the others. RADIO normalises images itself, and takes neither.
        max_bytes: bound on the activations of one batch of images.

    Attributes:
        provides: "feats", "attention" or both.
        feats_from: the row of `lpprop.presets.FEATS_FROM` whose settings suit the features; they
            were tuned on models of base size. None where no paper has settings.

    Raises:
        InputError: a model of another architecture, or an option that is unknown or that the model
            cannot have.

    >>> from transformers import ViTConfig, ViTModel
    >>> config = ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
    ...                    intermediate_size=48)
    >>> backbone = VisionTransformer(ViTModel(config), attention="key-key", blocks="all")
    >>> grid, _, feats, attention = backbone(torch.rand(1, 3, 70, 96))
    >>> grid, feats.shape, attention.shape
    ((5, 6), torch.Size([1, 24, 5, 6]), torch.Size([1, 30, 30]))
    """

    def __init__(
        self,
        model: Any,
        *,
        features: str | None = "value",
        attention: str | None = None,
        blocks: Sequence[int] | Literal["all"] = (-1,),
        position_offset: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        max_bytes: int = 2**30,
    ) -> None:
        _check_kinds(features, attention)
        position_offset = check_offset("position_offset", position_offset)
        patch_size = check_architecture(model)
        layout, own = find_layout(model), own_colours(model)
        if position_offset and (why := _why_no_offset(model, layout)):
            raise InputError.of(
                "position_offset",
                got=f"{position_offset:g} for {type(model).__name__}, which {why}",
                expected="0",
                fix="Leave it out.",
            )
        if own is not None and not (mean is None and std is None):
            raise InputError.of(
                "mean" if std is None else "std",
                got=f"{mean if std is None else std} for {type(model).__name__}, which normalises "
                "images itself",
                expected="None",
                fix="Leave mean and std out.",
            )
        colours = own or layout.colours
        super().__init__(
            patch_size=patch_size,
            mean=colours.mean if mean is None else mean,
            std=colours.std if std is None else std,
            max_bytes=max_bytes,
        )
        self._inputs = layout.inputs
        self.model: Any = model
        self.features = features
        self.attention = attention
        self.position_offset = position_offset
        self.blocks = number_blocks(blocks, model.config.num_hidden_layers)
        self.provides = tuple(
            name for name, kind in (("feats", features), ("attention", attention)) if kind
        )
        self.feats_from = _FEATS_FROM.get((model.config.model_type, self.patch_size))
        self._prefix = count_prefix(model.embeddings)
        resizes = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self._arguments = {"interpolate_pos_encoding": True} if resizes else {}
        self.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        download: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> VisionTransformer:
        """Load a model and its colours; see `Backbone.from_pretrained`.

        `CHECKPOINTS` has the short names. Of a model of images and texts, such as SigLIP 2 or TIPS,
        the part for images is taken. Mean and std come from the checkpoint, unless they are among
        the options. `transformers` may report a pooler without weights: nothing uses it.
        """
        _check_kinds(options.get("features", "value"), options.get("attention"))
        checkpoint = find_checkpoint(checkpoint, CHECKPOINTS, revision)
        model = load_model(
            "transformers",
            "AutoModel",
            checkpoint,
            download=download,
            revision=revision,
            dtype=dtype,
            attn_implementation="sdpa",
        )
        model = getattr(model, "vision_model", model)
        commit = find_commit(checkpoint, revision)
        # None stands for the default, which the checkpoint's own colours go before.
        absent = {name for name in ("mean", "std") if options.get(name) is None}
        options = {name: value for name, value in options.items() if name not in absent}
        if own_colours(model) is None:
            source: dict[str, Any] = {"download": download, "revision": commit or revision}
            options = add_stored_colours(options, checkpoint, **source)
        backbone = cls(model, **options)
        backbone.commit = commit
        return backbone

    def _prepare(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 Y X"]:
        prepared = super()._prepare(image)
        if own_colours(self.model) is None:
            return prepared
        # Padded with the mean colour all the same; the model then does again what is undone here.
        mean, std = (
            torch.tensor(values, device=image.device)[:, None, None]
            for values in (self._mean, self._std)
        )
        return prepared * std + mean

    def _see(
        self, pixels: Float[Tensor, "b 3 H W"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        height, width = (side // self.patch_size for side in pixels.shape[-2:])
        tokens, count = self._prefix + height * width, self.model.config.num_hidden_layers
        watch = SeenBlocks(
            self.model,
            (len(pixels), tokens),
            prefix=self._prefix,
            features=self.features,
            attention=self.attention,
            blocks=self.blocks,
        )
        with OffsetPositions(self.position_offset), watch as blocks:
            output = self.model(*self._inputs(pixels, self.patch_size), **self._arguments)
        if blocks.seen != count:
            raise wrong_architecture(
                f"{type(self.model).__name__}, in which {blocks.seen} of {count} blocks attend "
                f"from {self._prefix} + {height} x {width} tokens to as many"
            )
        feats = blocks.feats
        if self.features == "token":
            feats = output.last_hidden_state[:, self._prefix :].mT
        if feats is not None:
            feats = feats.unflatten(2, (height, width))
        return BackboneOutput((height, width), feats=feats, attention=blocks.attention)

    def _item_bytes(self, size: tuple[int, int]) -> int:
        pixels = size[0] * size[1]
        patches = pixels // self.patch_size**2
        channels: int = self.model.config.hidden_size
        widest = max(m.out_features for m in self.model.modules() if isinstance(m, nn.Linear))
        # The residual stream and its norm; then q, k, v and the weighted values, or the MLP.
        each = 2 * channels + max(4 * channels, 2 * widest)
        needed = ((self._prefix + patches) * each + 3 * pixels) * self.dtype.itemsize
        if self.features is not None:
            needed += patches * channels * (self.dtype.itemsize + 4)
        if self.attention is not None:
            # The mean over blocks, the sum over heads, and one head before and after its softmax.
            needed += 4 * 4 * patches**2
        return needed


def _check_kinds(features: object, attention: object) -> None:
    """Check the kinds of features and attention, before anything is loaded."""
    if features is not None:
        check_choice("features", features, _FEATURES)
    if attention is not None:
        check_choice("attention", attention, _ATTENTION)
    if features is None and attention is None:
        raise InputError.of(
            "features",
            got="None, and no attention",
            expected="features, attention or both",
            fix='Pass features="value", or attention="query-key".',
        )


def _why_no_offset(model: Any, layout: Layout) -> str | None:
    """Say why the position embeddings of a model cannot be resized with an offset, if so."""
    names = ("position_embeddings", "position_embedding")
    if all(getattr(model.embeddings, name, None) is None for name in names):
        return "has no position embeddings"
    return None if layout.bicubic else "does not resize position embeddings bicubically"
