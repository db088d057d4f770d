"""Features and self-attention of Hugging Face's vision transformers, such as DINO and DINOv2.

Caron et al., "Emerging properties in self-supervised vision transformers", ICCV 2021; Oquab et al.,
"DINOv2", TMLR 2024; Darcet et al., "Vision transformers need registers", ICLR 2024.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lpprop._core.errors import InputError
from lpprop._core.options import check_choice
from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.hub import add_stored_colours, load_model
from lpprop.backbones.hub_cache import find_commit
from lpprop.backbones.positions import OffsetPositions, check_offset
from lpprop.backbones.self_attention import number_blocks, patch_attention

__all__ = ["CHECKPOINTS", "VisionTransformer"]

#: Short names that `VisionTransformer.from_pretrained` knows, with their repositories on the hub.
CHECKPOINTS: dict[str, str] = {
    "dino-vitb16": "facebook/dino-vitb16",
    "dino-vitb8": "facebook/dino-vitb8",
    "dinov2-vits14": "facebook/dinov2-small",
    "dinov2-vitb14": "facebook/dinov2-base",
    "dinov2-vitb14-registers": "facebook/dinov2-with-registers-base",
}

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

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
    where it has one, its rotary position embedding. Class token and registers are left out. The
    model itself resizes its position embeddings, bicubically. Threads may share one model.

    This class has been run with random weights of `ViTModel`, `DeiTModel`, `Dinov2Model`,
    `Dinov2WithRegistersModel`, `DINOv3ViTModel`, `BeitModel`, `IJepaModel`, `ViTMSNModel`,
    `CLIPVisionModel` and `SiglipVisionModel`, and with the trained ones of DINOv2 ViT-S/14. A model
    of another architecture is refused, at the latest at the first image.

    Args:
        model: a model of `transformers`; it is frozen and put into evaluation mode.
        features: "value", "key" or "query" of the last block, all heads concatenated, before the
            output projection; or "token", the model's `last_hidden_state`, which CLIP and BEiT
            return before a last layer norm; or None, for attention only. LPOSS takes DINO's values.
        attention: "query-key", which is the model's own, "query-query" or "key-key"; or None.
        blocks: blocks whose attention is averaged, counted from 0, or backwards from -1; or "all".
        position_offset: >= 0 and < 1. From m to n patches, position embeddings are resized with the
            scale (n + position_offset) / m. transformers take 0, the default; the original DINO,
            and DINOv2 without registers, take 0.1.
        mean, std: mean and standard deviation of the colours that the weights were trained on;
            ImageNet's by default.
        max_bytes: bound on the activations of one batch of images.

    Attributes:
        provides: "feats", "attention" or both.
        feats_from: the row of `lpprop.presets.FEATS_FROM` whose settings suit the features; they
            were tuned on models of base size. None where no paper has settings.

    Raises:
        InputError: a model of another architecture, or an unknown option.

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
        mean: Sequence[float] = _IMAGENET_MEAN,
        std: Sequence[float] = _IMAGENET_STD,
        max_bytes: int = 2**30,
    ) -> None:
        _check_kinds(features, attention)
        position_offset = check_offset("position_offset", position_offset)
        patch_size = _check_architecture(model)
        names = ("position_embeddings", "position_embedding")
        if position_offset and all(getattr(model.embeddings, x, None) is None for x in names):
            raise InputError.of(
                "position_offset",
                got=f"{position_offset:g} for {type(model).__name__}, which has no position "
                "embeddings",
                expected="0",
                fix="Leave it out.",
            )
        super().__init__(patch_size=patch_size, mean=mean, std=std, max_bytes=max_bytes)
        self.model: Any = model
        self.features = features
        self.attention = attention
        self.position_offset = position_offset
        self.blocks = number_blocks(blocks, model.config.num_hidden_layers)
        self.provides = tuple(
            name for name, kind in (("feats", features), ("attention", attention)) if kind
        )
        self.feats_from = _FEATS_FROM.get((model.config.model_type, self.patch_size))
        self._prefix = _count_prefix(model.embeddings)
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

        `CHECKPOINTS` has the short names. Mean and std come from the checkpoint, unless they are
        among the options. `transformers` may report a pooler without weights: nothing uses it.
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
        commit = find_commit(checkpoint, revision)
        source: dict[str, Any] = {"download": download, "revision": commit or revision}
        backbone = cls(model, **add_stored_colours(options, checkpoint, **source))
        backbone.commit = commit
        return backbone

    def _see(
        self, pixels: Float[Tensor, "b 3 H W"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        height, width = (side // self.patch_size for side in pixels.shape[-2:])
        tokens, count = self._prefix + height * width, self.model.config.num_hidden_layers
        with OffsetPositions(self.position_offset), _Blocks(self, (len(pixels), tokens)) as blocks:
            output = self.model(pixels, **self._arguments)
        if blocks.seen != count:
            raise _wrong_architecture(
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


class _Blocks(TorchFunctionMode):
    """Reads from each block what a backbone asks for, within `with` and in this thread only."""

    def __init__(self, backbone: VisionTransformer, shape: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = backbone
        self.shape = shape
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
        # A pooling head attends too, but from fewer tokens.
        if (query.shape[0], query.shape[-2]) != self.shape or key.shape != query.shape:
            return
        backbone, vectors = self.backbone, {"query": query, "key": key, "value": value}
        prefix, last = backbone._prefix, backbone.model.config.num_hidden_layers - 1
        if self.seen == last and backbone.features in vectors:
            self.feats = vectors[backbone.features][:, :, prefix:].mT.flatten(1, 2)
        if backbone.attention is not None and self.seen in backbone.blocks:
            if attn_mask is not None or is_causal:
                raise InputError.of(
                    "attention",
                    got=f"{type(backbone.model).__name__}, whose attention has a bias or a mask",
                    expected="a softmax of the products of queries and keys alone",
                    fix="Take its features, with attention=None.",
                )
            pair = (vectors[name] for name in backbone.attention.split("-"))
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            found = patch_attention(*pair, scale=scale, prefix=prefix).div_(len(backbone.blocks))
            self.attention = found if self.attention is None else self.attention.add_(found)
        self.seen += 1


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


def _check_architecture(model: Any) -> int:
    """Return the side of a patch, or refuse a model that is no plain vision transformer."""
    name, config = type(model).__name__, getattr(model, "config", None)
    patch: Any = getattr(config, "patch_size", None)
    sides = [*patch] if isinstance(patch, (list, tuple)) else [patch]
    square = sides and all(isinstance(side, int) and side == sides[0] for side in sides)
    if not (square and hasattr(model, "embeddings") and hasattr(config, "num_hidden_layers")):
        raise _wrong_architecture(name)
    if hasattr(config, "mask_ratio"):
        raise _wrong_architecture(f"{name}, which shuffles the patches and drops some")
    kernel = getattr(config, "_attn_implementation", "sdpa")
    if kernel != "sdpa":
        raise InputError.of(
            "model",
            got=f"a {name} with {kernel!r} attention",
            expected="PyTorch's scaled dot product attention, 'sdpa'",
            fix="Call model.set_attn_implementation('sdpa').",
        )
    return int(sides[0])


def _wrong_architecture(got: str) -> InputError:
    return InputError.of(
        "model",
        got=got,
        expected="a vision transformer of transformers whose blocks all attend from every patch "
        "to every patch, such as ViTModel or Dinov2Model",
        fix="Pass the model without its head, as AutoModel.from_pretrained loads it.",
    )


def _count_prefix(embeddings: Any) -> int:
    """Count the tokens before the patches, by the attributes that the models have for them."""
    single = ("cls_token", "class_embedding", "distillation_token")
    registers = getattr(embeddings, "register_tokens", None)
    count = sum(getattr(embeddings, name, None) is not None for name in single)
    return count + (0 if registers is None else int(registers.shape[1]))
