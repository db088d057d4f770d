"""Proposers by the names that the command line and recipes have for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lpprop._core.errors import InputError
from lpprop._core.options import hint
from lpprop.inputs.proposals import PROPOSERS, Proposal
from lpprop.inputs.regions import Regions
from lpprop.regions.checkpoints import PANOPTIC, PROMPTED, SAM, SAM2

__all__ = ["NAMES", "SUMMARY", "find_proposer"]

#: The classes of `lpprop.regions` that have weights, by the names of these.
_MODELS = {
    **dict.fromkeys(SAM, "SAM"),
    **dict.fromkeys(SAM2, "SAM2"),
    **dict.fromkeys(PANOPTIC, "Panoptic"),
    **dict.fromkeys([f"prompted-{name}" for name in PROMPTED], "PromptedSAM"),
}

#: The names that `find_proposer` knows.
NAMES: tuple[str, ...] = (*PROPOSERS, *_MODELS)

#: What help and errors say of them.
SUMMARY = f"{', '.join(PROPOSERS)}, or a model that proposes regions, such as sam2-hiera-tiny"


def find_proposer(
    name: str, *, download: bool = True, device: str | torch.device = "cpu"
) -> Callable[..., Regions]:
    """Return the proposer that a name stands for.

    Args:
        name: one of `NAMES`.
        download: whether a model's weights may be downloaded.
        device: where a model computes.

    Raises:
        ImportError: an extra is not installed; the message names it.
        InputError: an unknown name, or weights that cannot be loaded.

    >>> find_proposer("slic").__name__
    'slic'
    """
    if name in PROPOSERS:
        superpixels: Callable[..., Regions] = Proposal(name).proposer
        return superpixels
    if name not in _MODELS:
        fix = hint(name, NAMES, "docs/regions.md lists the models.")
        raise InputError.of("regions", got=repr(name), expected=SUMMARY, fix=fix)
    import lpprop.regions as regions

    cls = getattr(regions, _MODELS[name])
    proposer: Any = cls.from_pretrained(name.removeprefix("prompted-"), download=download)
    model: Callable[..., Regions] = proposer.to(device)
    return model
