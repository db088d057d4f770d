"""Maps of classes in words from SAM 3's concept prompts.

Carion et al., "SAM 3: Segment anything with concepts", 2025; Li et al., "SegEarth-OV3: Exploring
SAM 3 for open-vocabulary semantic segmentation in remote sensing images", 2025, arXiv:2512.08730.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_boolean
from lpprop._core.progress import track
from lpprop.backbones.backbone import BackboneOutput
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.class_reader import ClassReader
from lpprop.backbones.hub import add_stored_colours, load_model, load_tokenizer
from lpprop.backbones.hub_cache import find_commit, import_extra
from lpprop.backbones.prompts import read_classes
from lpprop.backbones.sentences import pad_tokens, read_sentences
from lpprop.inputs.classes import merge_classes

__all__ = ["CHECKPOINTS", "ConceptTexts", "SAM3Concepts"]

#: Short names that `SAM3Concepts.from_pretrained` knows, with their repositories on the hub, which
#: gives SAM 3 to those whom its makers have admitted.
CHECKPOINTS: dict[str, str] = {"sam3": "facebook/sam3"}


_TEXTS = 64  # prompts that are embedded at once


class ConceptTexts(NamedTuple):
    """Prompts as SAM 3 reads them.

    Attributes:
        features: a vector per token, in the width of the detector.
        mask: 1 where a prompt has a token.
    """

    features: Float[Tensor, "Q T D"]
    mask: Int[Tensor, "Q T"]


class SAM3Concepts(ClassReader):
    """The probability that SAM 3 sees a class at a point, as logits.

    For each prompt, SAM 3 gives the logits m_i of a mask and s_i of a score per instance i, g of a
    mask of the concept as a whole, and p of its presence in the image at all. With the sigmoid σ,
    the map of the prompt is

        P = σ(p) max( max_i σ(s_i) σ(m_i), σ(g) )

    and that of a class is the maximum over its prompts, in [0, 1]. SAM 3's own code multiplies
    scores by presence, drops instances below a threshold and gives binary masks; it has no rule for
    a map per class. This one is SegEarth-OV3's, but for two things: its code drops instances with
    σ(p) σ(s_i) <= 0.5, and multiplies those that are left by σ(p) twice. `semantic=False` leaves g
    out. g is what covers stuff, such as sky or road, that does not come in instances.

    A pixel that belongs to none of the classes has low scores for all of them, which do not sum to
    1: `lpprop.add_background` with a threshold tells it from the others, and so does a `Segmenter`
    with a background.

    SAM 3 was trained on short noun phrases. Prompts are taken as they are, without templates. The
    image is squashed to the square that the weights were trained on, and encoded once; the prompts
    are embedded once per list of classes, and the rest runs per image and prompt.

    This class has been run with random weights of `Sam3Model`, and not yet with trained ones.

    Args:
        model: a `transformers.Sam3Model`; it is frozen and put into evaluation mode.
        tokenizer: its `transformers.CLIPTokenizer`.
        semantic: whether the mask of the concept as a whole counts.
        mean, std: mean and standard deviation of the colours that the weights were trained on.
        max_bytes: bound on the activations of one batch of images or prompts.

    Raises:
        InputError: another kind of model or tokenizer, or an option that cannot be used.

    >>> from transformers import CLIPTokenizer, Sam3Config, Sam3Model
    >>> letters = ["<|startoftext|>", "<|endoftext|>", *"acdo", "a</w>", "t</w>", "g</w>"]
    >>> tokenizer = CLIPTokenizer(vocab={text: i for i, text in enumerate(letters)}, merges=[])
    >>> tiny = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    >>> vit = {"num_hidden_layers": 1, "image_size": 56, "window_size": 2}
    >>> config = Sam3Config(
    ...     vision_config={"fpn_hidden_size": 16, "backbone_config": {
    ...         "model_type": "sam3_vit_model", "pretrain_image_size": 28, **tiny, **vit}},
    ...     text_config={"model_type": "clip_text_model", "vocab_size": 9, "bos_token_id": 0,
    ...                  "eos_token_id": 1, "num_hidden_layers": 1, **tiny},
    ...     geometry_encoder_config={"num_layers": 1, **tiny},
    ...     detr_encoder_config={"num_layers": 1, **tiny},
    ...     detr_decoder_config={"num_layers": 1, "num_queries": 3, **tiny},
    ...     mask_decoder_config={"hidden_size": 16, "num_attention_heads": 2})
    >>> backbone = SAM3Concepts(Sam3Model(config), tokenizer)
    >>> grid, logits, _, _ = backbone(torch.rand(1, 3, 70, 96), ["cat", "animal = dog; cat"])
    >>> grid, logits.shape
    ((16, 16), torch.Size([1, 2, 16, 16]))
    """

    provides = ("logits",)
    independent = True

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        semantic: bool = True,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        max_bytes: int = 2**30,
    ) -> None:
        semantic = check_boolean("semantic", semantic)
        vision = _check_model(model)
        super().__init__(patch_size=vision.patch_size, mean=mean, std=std, max_bytes=max_bytes)
        self.semantic = semantic
        self.side: int = vision.image_size
        self.model = model
        self.tokenizer = tokenizer
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
    ) -> SAM3Concepts:
        """Load a model, its tokenizer and its colours; see `Backbone.from_pretrained`.

        `CHECKPOINTS` has the short names.
        """
        checkpoint = find_checkpoint(checkpoint, CHECKPOINTS, revision)
        source: dict[str, Any] = {"download": download, "revision": revision}
        model = load_model("transformers", "Sam3Model", checkpoint, dtype=dtype, **source)
        commit = find_commit(checkpoint, revision)
        source["revision"] = commit or revision
        tokenizer = load_tokenizer(checkpoint, **source)
        backbone = cls(model, tokenizer, **add_stored_colours(options, checkpoint, **source))
        backbone.commit = commit
        return backbone

    def span(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size itself, since the image is resized and the grid spans all of it."""
        return size

    def _prepare(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 S S"]:
        """Resize to the square that the model takes, and normalise."""
        square = (self.side, self.side)
        return super()._prepare(F.interpolate(image, square, mode="bilinear", antialias=True))

    def _embed(self, prompts: Sequence[str]) -> ConceptTexts:
        tokens = read_sentences(self.tokenizer, self.model.config.text_config, prompts)
        # Under the mask, and with causal attention, padding has no influence.
        ids, mask = pad_tokens(tokens, self.tokenizer.eos_token_id, self.device)
        read = self.model.get_text_features
        # One prompt is at most 32 tokens, and its activations are small beside those of an image.
        parts = zip(ids.split(_TEXTS), mask.split(_TEXTS), strict=True)
        found = [read(input_ids=i, attention_mask=m).pooler_output for i, m in parts]
        return ConceptTexts(torch.cat(found), mask)

    def _see(
        self, pixels: Float[Tensor, "b 3 S S"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        if classes is None:
            raise InputError.of(
                "classes",
                got="None",
                expected="a list of class names, since SAM 3 sees nothing without a prompt",
                fix='Pass one string per class, such as ["cat; tiger cat", "sofa"].',
            )
        texts = self.text_embeddings(classes)
        at_once = max(1, self.max_bytes // self._prompt_bytes())
        seen = self.model.get_vision_features(pixels)
        parts = list(zip(*(x.split(at_once) for x in texts), strict=True))
        maps = torch.stack(
            [
                torch.cat([self._score(seen, item, *part) for part in track(parts, unit="batch")])
                for item in range(len(pixels))
            ]
        )
        logits = merge_classes(maps, read_classes(classes).groups)
        return BackboneOutput((maps.shape[2], maps.shape[3]), logits=logits)

    def _score(
        self, seen: Any, item: int, features: Float[Tensor, "q T D"], mask: Int[Tensor, "q T"]
    ) -> Float[Tensor, "q y x"]:
        """Make the maps of some prompts for one of the images that were encoded."""

        def of_this_image(levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
            return tuple(x[item].expand(len(features), -1, -1, -1) for x in levels)

        wrap = import_extra("transformers.modeling_outputs", "BaseModelOutputWithPooling")
        output = self.model(
            vision_embeds=type(seen)(
                fpn_hidden_states=of_this_image(seen.fpn_hidden_states),
                fpn_position_encoding=of_this_image(seen.fpn_position_encoding),
            ),
            text_embeds=wrap(pooler_output=features),
            attention_mask=mask,
        )
        scores = output.pred_logits.float().sigmoid()[..., None, None]
        maps: Tensor = output.pred_masks.float().sigmoid().mul_(scores).amax(1)
        if self.semantic:
            maps = torch.maximum(maps, output.semantic_seg[:, 0].float().sigmoid())
        presence: Tensor = output.presence_logits.float().sigmoid()
        return maps * presence[..., None]

    def _item_bytes(self, size: tuple[int, int]) -> int:
        config = self.model.config.vision_config
        vit = config.backbone_config
        cells = (self.side // self.patch_size) ** 2
        # The residual stream and its norm; then q, k, v and the weighted values, or the MLP.
        each = 2 * vit.hidden_size + max(4 * vit.hidden_size, 2 * vit.intermediate_size)
        levels = sum(scale**2 for scale in config.scale_factors) * cells * config.fpn_hidden_size
        # Each level with its positions, and what the largest is made of.
        values = int(cells * each + 4 * levels) + 6 * self.side**2
        return values * self.dtype.itemsize + self._prompt_bytes()

    def _prompt_bytes(self) -> int:
        """Estimate the activations of one prompt: in the mask decoder, or before it."""
        config, cells = self.model.config, (self.side // self.patch_size) ** 2
        points = cells * config.vision_config.scale_factors[0] ** 2
        hidden, encoder = config.mask_decoder_config.hidden_size, config.detr_encoder_config
        decoder = config.detr_decoder_config
        masks = (4 * hidden + decoder.num_queries) * points
        tokens = 6 * hidden + 2 * encoder.intermediate_size
        bias = 3 * decoder.num_attention_heads * decoder.num_queries
        values = int(max(masks, (tokens + bias) * cells)) * self.dtype.itemsize
        return max(values, int(2 * 4 * decoder.num_queries * points))


def _check_model(model: Any) -> Any:
    """Return the configuration of the image encoder, or refuse a model that is no SAM 3."""
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) != "sam3" or not hasattr(model, "mask_decoder"):
        raise InputError.of(
            "model",
            got=type(model).__name__,
            expected="a transformers.Sam3Model",
            fix="Load one with SAM3Concepts.from_pretrained.",
        )
    return model.config.vision_config.backbone_config
