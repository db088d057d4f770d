"""Pictures of a class by Stable Diffusion, each with the map of where it looked at the word."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from lpprop._core.checks import is_finite
from lpprop._core.errors import InputError
from lpprop._core.options import check_integer
from lpprop.backbones.cross_attention import watch_words, word_positions
from lpprop.backbones.fingerprints import hash_weights
from lpprop.backbones.unet import list_stages

__all__ = ["Artist", "Drawn", "Order", "plan_pictures"]

_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "safety_checker")


class Order(NamedTuple):
    """A picture to draw.

    Attributes:
        name: the class.
        number: which picture of the class it is.
        template: a sentence with one "{}".
        word: what takes its place.
        seed: decides about the noise.
    """

    name: str
    number: int
    template: str
    word: str
    seed: int

    @property
    def prompt(self) -> str:
        """The sentence that is drawn."""
        return self.template.replace("{}", self.word)

    @property
    def record(self) -> dict[str, Any]:
        """What a file says of it."""
        return {"prompt": self.prompt, "word": self.word, "seed": self.seed}


def plan_pictures(
    name: str, words: Sequence[str], templates: Sequence[str], *, seed: int, count: int
) -> list[Order]:
    """Plan the pictures of a class: its words take turns, and then the templates.

    A picture's own seed follows from `seed`, the name and its number alone.

    >>> [order.prompt for order in plan_pictures("cat", ["cat", "kitten"], ["a {}", "the {}"],
    ...                                          seed=0, count=5)]
    ['a cat', 'a kitten', 'the cat', 'the kitten', 'a cat']
    """
    orders = []
    for number in range(count):
        digest = hashlib.sha256(f"{seed} {number} {name}".encode()).digest()
        template = templates[number // len(words) % len(templates)]
        own = int.from_bytes(digest[:6], "big")  # JSON's readers keep integers of 53 bits
        orders.append(Order(name, number, template, words[number % len(words)], own))
    return orders


class Drawn(NamedTuple):
    """A picture.

    Attributes:
        pixels: RGB.
        attention: the share of its attention that each place gives to the word.
        blackened: whether the safety checker did not let it pass.
    """

    pixels: UInt8[Tensor, "3 H W"]
    attention: Float[Tensor, "H W"]
    blackened: bool


class Artist:
    """Stable Diffusion with the settings of a run.

    Args:
        pipeline: a `diffusers.StableDiffusionPipeline` on its device.
        steps: number of denoising steps.
        guidance: scale of the classifier-free guidance.
        side: side of the pictures; that for which the U-Net was trained if None.
        max_bytes: bound on the activations of the pictures that are drawn at once.

    Attributes:
        side: side of the pictures.
        at_once: how many the bound allows, at least one.

    Raises:
        InputError: another pipeline, or a side that is no whole number of cells of the U-Net's
            coarsest grid.
    """

    def __init__(
        self, pipeline: Any, *, steps: int, guidance: float, side: int | None, max_bytes: int
    ) -> None:
        if not all(hasattr(pipeline, part) for part in _PARTS):
            raise InputError.of(
                "pipeline",
                got=type(pipeline).__name__,
                expected="a diffusers.StableDiffusionPipeline",
                fix="Load one with lpprop.backbones.load_diffusion_pipeline.",
            )
        self.pipeline, self.steps, self.guidance = pipeline, steps, guidance
        self.side = self._check_side(side)
        # Measured with an autoencoder of Stable Diffusion's sizes, whose finest level has the most
        # activations: 7 of its maps.
        channels = pipeline.vae.config.block_out_channels[0]
        needed = 7 * self.side**2 * channels * pipeline.dtype.itemsize
        self.at_once = max(1, check_integer("max_bytes", max_bytes) // needed)

    def _check_side(self, side: int | None) -> int:
        own, scale = self.pipeline.unet.config.sample_size, self.pipeline.vae_scale_factor
        cell = scale * max(stage.stride for stage in list_stages(self.pipeline.unet))
        if side is None:
            side = scale * (own if isinstance(own, int) else min(own))
        side = check_integer("side", side)
        if side % cell:
            raise InputError.of(
                "side",
                got=str(side),
                expected=f"a multiple of {cell}",
                fix=f"Pass {max(1, round(side / cell)) * cell}.",
            )
        return side

    def describe(self) -> dict[str, Any]:
        """Describe what decides about a picture beside prompt and noise, for JSON."""
        pipeline = self.pipeline
        scheduler = {
            name: value
            for name, value in pipeline.scheduler.config.items()
            if isinstance(value, (str, int, float, bool))
        }
        parts = ("text_encoder", "unet", "vae")
        return {
            "steps": self.steps,
            "guidance": self.guidance,
            "side": self.side,
            "commit": getattr(pipeline, "commit", None),
            "scheduler": {"class": type(pipeline.scheduler).__name__} | scheduler,
            "safety checker": pipeline.safety_checker is not None,
            "weights": {part: hash_weights(getattr(pipeline, part)) for part in parts},
        }

    def find_words(self, orders: Sequence[Order]) -> dict[str, list[int]]:
        """Return the places of the word's tokens in each prompt.

        Raises:
            InputError: a prompt that does not hold its word as a whole, or that is too long.
        """
        tokenizer = self.pipeline.tokenizer
        return {
            order.prompt: word_positions(tokenizer, order.template, order.word) for order in orders
        }

    def draw(self, orders: Sequence[Order]) -> list[Drawn]:
        """Draw some pictures at once.

        Raises:
            InputError: pictures that are not finite.
        """
        places = self.find_words(orders)
        # On the CPU, so that a GPU starts from the same noise.
        generators = [torch.Generator().manual_seed(order.seed) for order in orders]
        pipeline = self.pipeline
        bars = getattr(pipeline, "_progress_bar_config", {})
        pipeline.set_progress_bar_config(**bars | {"disable": True})
        try:
            with watch_words(pipeline.unet, [places[order.prompt] for order in orders]) as watched:
                output = pipeline(
                    [order.prompt for order in orders],
                    num_inference_steps=self.steps,
                    guidance_scale=self.guidance,
                    height=self.side,
                    width=self.side,
                    generator=generators,
                    output_type="pt",
                )
        finally:
            pipeline.set_progress_bar_config(**bars)
        images = output.images.float().cpu()
        maps = watched.maps((self.side, self.side)).cpu()
        if not (is_finite(images) and is_finite(maps)):
            raise InputError.of(
                "pipeline",
                got=f"NaN or infinity in a picture of {orders[0].name!r} in {pipeline.dtype}",
                expected="finite values",
                fix="Load it in torch.bfloat16 or float32; if it is, its weights are damaged.",
            )
        # As a file holds them, so that whoever reads it sees what the models saw.
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        flags = output.nsfw_content_detected or [False] * len(orders)
        return [Drawn(*each) for each in zip(pixels, maps, map(bool, flags), strict=True)]
