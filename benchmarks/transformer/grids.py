"""Grids of options: a way for each point, named by its values."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from ..camvid.tables import setting
from .methods import Way


def grid(make: Callable[..., Way], **values: Sequence[Any]) -> dict[str, Way]:
    """A way for each combination of the values, the last option changing fastest."""
    found = {}
    for point in itertools.product(*values.values()):
        given = dict(zip(values, point, strict=True))
        found[setting(given)] = replace(make(**given), values=given)
    return found
