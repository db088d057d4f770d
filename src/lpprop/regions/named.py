"""Proposers by the names that the command line and recipes have for them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lpprop.inputs.proposals import PROPOSERS, Proposal
from lpprop.inputs.regions import Regions

__all__ = ["NAMES", "find_proposer"]

#: The names that `find_proposer` knows.
NAMES: tuple[str, ...] = PROPOSERS


def find_proposer(name: str) -> Callable[[Tensor], Regions]:
    """Return the proposer that a name stands for.

    Raises:
        InputError: an unknown name.

    >>> find_proposer("slic").__name__
    'slic'
    """
    proposer: Callable[[Tensor], Regions] = Proposal(name).proposer
    return proposer
