"""Sentences for a text encoder: their tokens, and the embeddings of prompts in templates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.errors import InputError

__all__ = ["embed_prompts", "pad_tokens", "read_sentences", "tokenise"]


def tokenise(tokenizer: Any, sentences: Sequence[str]) -> list[list[int]]:
    """Turn sentences into tokens, and refuse a tokenizer that does not know their words.

    Where its vocabulary is missing, `transformers` makes a tokenizer without words. It turns every
    word into the end token, after which the model reads no further.
    """
    tokens: list[list[int]] = tokenizer(list(sentences))["input_ids"]
    for sentence, ids in zip(sentences, tokens, strict=True):
        if tokenizer.eos_token_id in ids[:-1]:
            raise InputError.of(
                "tokenizer",
                got=f"one that cannot read {sentence!r}",
                expected="the one that the model was trained with",
                fix="Check that its vocabulary lies beside the weights: tokenizer.json, or "
                "vocab.json and merges.txt.",
            )
    return tokens


def read_sentences(tokenizer: Any, config: Any, sentences: Sequence[str]) -> list[list[int]]:
    """Turn sentences into tokens that a text encoder of this configuration can read.

    Raises:
        InputError: a sentence that is too long for the model, or that the tokenizer cannot read.
    """
    tokens = tokenise(tokenizer, sentences)
    most = config.max_position_embeddings
    for sentence, ids in zip(sentences, tokens, strict=True):
        if len(ids) > most:
            raise InputError.of(
                "classes",
                got=f"the prompt {sentence!r} of {len(ids)} tokens",
                expected=f"at most {most}, the length of the model's context",
                fix='Use shorter names; separate synonyms by ";".',
            )
    largest, known = max(map(max, tokens)), config.vocab_size
    if largest >= known:
        raise InputError.of(
            "tokenizer",
            got=f"one that makes the token {largest}",
            expected=f"tokens below {known}, as many as the model has",
            fix="Take both from one checkpoint; if they are, copy or download it again.",
        )
    return tokens


def pad_tokens(
    tokens: Sequence[Sequence[int]], padding: int, device: torch.device
) -> tuple[Int[Tensor, "Q T"], Int[Tensor, "Q T"]]:
    """Pad sentences at their ends to one length; return them with a mask, 1 where they have tokens.

    >>> pad_tokens([[5, 6], [7]], 0, torch.device("cpu"))
    (tensor([[5, 6], [7, 0]]), tensor([[1, 1], [1, 0]]))
    """
    length = max(map(len, tokens))
    padded = [[*ids, *[padding] * (length - len(ids))] for ids in tokens]
    mask = [[1] * len(ids) + [0] * (length - len(ids)) for ids in tokens]
    return torch.tensor(padded, device=device), torch.tensor(mask, device=device)


def embed_prompts(
    embed: Callable[[Tensor, Tensor], Float[Tensor, "b D"]],
    read: Callable[[Sequence[str]], list[list[int]]],
    prompts: Sequence[str],
    templates: Sequence[str],
    *,
    padding: int,
    tokens_at_once: int,
    device: torch.device,
) -> Float[Tensor, "Q D"]:
    """Embed each prompt as the mean of its sentences, one per template, all of unit length.

    Args:
        embed: the text encoder: tokens and their mask in, a vector per sentence out.
        read: turns sentences into tokens.
        prompts: what the templates are filled with.
        templates: sentences with one "{}" each.
        padding: the token at the ends of the shorter sentences of a batch.
        tokens_at_once: bound on the tokens of a batch, which holds at least one sentence.
        device: where the text encoder is.

    Returns:
        (Q, D) in float32, on that device.
    """
    tokens = read([text.replace("{}", one) for one in prompts for text in templates])
    at_once = max(1, tokens_at_once // max(map(len, tokens)))
    parts = []
    for start in range(0, len(tokens), at_once):
        pooled = embed(*pad_tokens(tokens[start : start + at_once], padding, device))
        parts.append(F.normalize(pooled.float(), dim=-1))
    mean = torch.cat(parts).unflatten(0, (len(prompts), len(templates))).mean(1)
    return F.normalize(mean, dim=-1)
