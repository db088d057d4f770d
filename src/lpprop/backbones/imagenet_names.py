"""The names of ImageNet's classes, which stand below all that reads classes in words."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

__all__ = ["imagenet_classes"]


@lru_cache
def imagenet_classes() -> tuple[str, ...]:
    """Return the 1000 names in ILSVRC's order, WordNet synonyms separated by ", ".

    >>> imagenet_classes()[281:283]
    ('tabby, tabby cat', 'tiger cat')
    """
    text = files("lpprop.backbones").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
