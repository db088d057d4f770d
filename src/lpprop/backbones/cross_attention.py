"""Where Stable Diffusion looks at a word of its prompt while it draws.

Tang et al., "What the DAAM: Interpreting Stable Diffusion Using Cross Attention", ACL 2023, average
the cross-attention of all heads, layers and steps, and read a word's map from the average.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.backbones.prompts import check_templates
from lpprop.backbones.sentences import tokenise
from lpprop.backbones.unet import list_stages
from lpprop.refiners import bilinear_upsample

__all__ = ["WordAttention", "watch_words", "word_positions"]


class WordAttention:
    """Running sums of the attention to one word per picture; `watch_words` makes and fills it.

    The memory does not grow with the steps: it holds one map per picture and resolution.
    """

    def __init__(self, positions: Sequence[Sequence[int]]) -> None:
        self.positions = positions
        self._size: tuple[int, int] | None = None
        self._totals: dict[int, Float[Tensor, "B N"]] = {}
        self._calls = 0

    def maps(self, size: tuple[int, int]) -> Float[Tensor, "B H W"]:
        """Average over steps and layers what is seen so far.

        Args:
            size: (H, W), to which the maps of all resolutions are resized bilinearly.

        Returns:
            (B, H, W) in float32: at each place, the share of its attention that the word gets.

        Raises:
            InputError: the U-Net has not run, so there is nothing to average.
        """
        if self._size is None:
            raise InputError.of(
                "maps",
                got="a U-Net that has not run",
                expected="a run inside the block of watch_words",
                fix="Call the pipeline first.",
            )
        height, width = self._size
        maps = [
            bilinear_upsample(sums.reshape(-1, 1, height // stride, width // stride), size)
            for stride, sums in self._totals.items()
        ]
        return torch.cat(maps, 1).sum(1) / self._calls

    def _see_latents(self, module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        latents = inputs[0] if inputs else named["sample"]
        self._size = latents.shape[-2], latents.shape[-1]

    @torch.no_grad()
    def _see_layer(
        self, layer: Any, inputs: tuple[Any, ...], named: dict[str, Any], stride: int
    ) -> None:
        states, prompts = inputs[0], named["encoder_hidden_states"]
        count = len(self.positions)
        if len(states) not in (count, 2 * count):
            raise InputError.of(
                "positions",
                got=f"those of {count} pictures, while the U-Net runs on {len(states)}",
                expected="as many as there are pictures, with or without guidance",
                fix="Pass one list of positions per picture.",
            )
        # With classifier-free guidance the first half of the batch has no prompt.
        queries, keys = (
            project(given[-count:]).unflatten(-1, (layer.heads, -1)).transpose(1, 2).float()
            for project, given in ((layer.to_q, states), (layer.to_k, prompts))
        )
        seen = (layer.scale * queries @ keys.mT).softmax(-1).mean(1)
        word = torch.stack(
            [one[:, place].sum(-1) for one, place in zip(seen, self.positions, strict=True)]
        )
        self._totals[stride] = self._totals[stride] + word if stride in self._totals else word
        self._calls += 1


@contextmanager
def watch_words(
    unet: Any, positions: Sequence[Sequence[int]], *, strides: Collection[int] = (2, 4)
) -> Iterator[WordAttention]:
    """Collect the cross-attention of a word per picture while the U-Net runs inside the block.

    In a layer, place i of the picture attends to token t of the prompt by

        A_it = softmax_t(q_i . k_t / sqrt(d)).

    Its maps are averaged over the heads and summed over the word's tokens, so that a word of
    several tokens counts as one. The sums over layers and steps grow in place, one map per
    resolution.

    DAAM takes the layers of all resolutions; Prompt-to-Prompt (Hertz et al., ICLR 2023) and
    Attend-and-Excite (Chefer et al., SIGGRAPH 2023) take those of 16 x 16 alone, where the maps say
    the most about what is where. The default, ours, takes strides 2 and 4 of the latents: for a
    picture of 512 x 512 these are the layers of 32 x 32 and 16 x 16.

    The U-Net computes the same as without this block. Threads must not share it meanwhile.

    Args:
        unet: a `diffusers.UNet2DConditionModel`.
        positions: for each picture of the batch, in its order, the places of its word's tokens in
            the prompt, as `word_positions` returns them.
        strides: the divisors of the latents' sides whose layers count.

    Yields:
        The sums, whose `maps` are read after the run.

    Raises:
        InputError: no positions, or a stride at which the U-Net has no cross-attention.

    >>> from diffusers import UNet2DConditionModel
    >>> unet = UNet2DConditionModel(
    ...     block_out_channels=(4, 4), attention_head_dim=2, cross_attention_dim=8,
    ...     norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    ...     up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    >>> with watch_words(unet, [[5], [5, 6]], strides=[1]) as watched, torch.no_grad():
    ...     _ = unet(torch.rand(2, 4, 8, 8), 0, torch.rand(2, 77, 8))
    >>> watched.maps((64, 64)).shape
    torch.Size([2, 64, 64])
    """
    layers = [
        (layer, stage.stride)
        for stage in list_stages(unet)
        for path, layer in stage.module.named_modules()
        if path.rpartition(".")[2] == "attn2" and layer.is_cross_attention
    ]
    known = sorted({stride for _, stride in layers})
    if not strides or not set(strides) <= set(known):
        raise InputError.of(
            "strides",
            got=repr(tuple(strides)),
            expected=f"some of {', '.join(map(str, known))}, where the U-Net has cross-attention",
            fix="Leave strides out for Stable Diffusion.",
        )
    if not positions or not all(positions):
        raise InputError.of(
            "positions",
            got=repr(positions),
            expected="at least one token per picture",
            fix="Make them with word_positions.",
        )
    watched = WordAttention(positions)
    with ExitStack() as hooks:
        hook = unet.register_forward_pre_hook(watched._see_latents, with_kwargs=True)
        hooks.enter_context(hook)
        for layer, stride in layers:
            if stride in strides:
                see = _at_stride(watched, stride)
                hooks.enter_context(layer.register_forward_pre_hook(see, with_kwargs=True))
        yield watched


def _at_stride(watched: WordAttention, stride: int) -> Any:
    return lambda layer, inputs, named: watched._see_layer(layer, inputs, named, stride)


def word_positions(tokenizer: Any, template: str, word: str) -> list[int]:
    """Return the places of a word's tokens in the prompt that a template makes of it.

    Args:
        tokenizer: a `transformers.CLIPTokenizer`.
        template: a sentence with one "{}".
        word: what takes its place, such as "cat" or "traffic light".

    Returns:
        The places, counted from 0, of all of its tokens; the start token is at 0.

    Raises:
        InputError: a template without one "{}", words that the tokenizer cannot read or that it
            joins with the template's, or a prompt longer than the model reads.

    >>> from transformers import CLIPTokenizer
    >>> marks = ["<|startoftext|>", "<|endoftext|>"]
    >>> vocabulary = [*marks, *"acdgot", *(f"{letter}</w>" for letter in "acdgot")]
    >>> tokenizer = CLIPTokenizer(
    ...     vocab={token: i for i, token in enumerate(vocabulary)}, merges=[], model_max_length=77)
    >>> word_positions(tokenizer, "a {}", "cat")  # after start and "a": c, a, t
    [2, 3, 4]
    """
    (template,) = check_templates([template], "prompts")
    prompt, before = template.replace("{}", word), template.partition("{}")[0]
    ids, first, alone = tokenise(tokenizer, [prompt, before.rstrip(), word])
    most = tokenizer.model_max_length
    if len(ids) > most:
        raise InputError.of(
            "classes",
            got=f"the prompt {prompt!r} of {len(ids)} tokens",
            expected=f"at most {most}, since the model reads no further",
            fix='Use shorter names, or separate synonyms by ";".',
        )
    start = len(first) - 1
    places = list(range(start, start + len(alone) - 2))
    if not places or [ids[place] for place in places] != alone[1:-1]:
        raise InputError.of(
            "prompts",
            got=f"{prompt!r}, in which the tokens of {word!r} are not found",
            expected='a sentence in which "{}" stands as a word of its own',
            fix='Put blanks around it, as in "a photo of a {}".',
        )
    return places
