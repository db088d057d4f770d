"""The base of backbones that score classes in words."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import torch

from lpprop.backbones.backbone import Backbone
from lpprop.backbones.prompts import parse_classes, read_classes

__all__ = ["ClassReader"]

_CACHED_LISTS = 8  # lists of classes whose embeddings are cached; a loop over images has one


class ClassReader(Backbone):
    """A backbone that embeds the prompts of classes, once per list of classes.

    A subclass sets `model` and `tokenizer`, and says in `_embed` how prompts are embedded.
    """

    model: Any
    tokenizer: Any

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._texts: OrderedDict[Hashable, Any] = OrderedDict()

    def class_names(self, classes: Sequence[str]) -> list[str]:
        """Return the name of each class, or refuse one that the model cannot read."""
        self.text_embeddings(classes)
        return read_classes(classes).class_names

    @torch.no_grad()
    def text_embeddings(self, classes: Sequence[str]) -> Any:
        """Embed `parse_classes(classes).prompts`.

        Returns:
            (Q, D) of unit length, in float32; SAM 3's are `ConceptTexts`. This is what is cached,
            not a copy: do not change it in place.

        Raises:
            InputError: classes that cannot be read, or a prompt that is too long for the model.
        """
        prompts = parse_classes(classes).prompts
        key = (tuple(prompts), self._settings(), self.dtype, self.device)
        found = self._texts.get(key)
        if found is None:
            # Autocast is off, since the cache must not depend on where the first call was made.
            with torch.autocast(self.device.type, enabled=False):
                found = self._embed(prompts)
            self._texts[key] = found
            if len(self._texts) > _CACHED_LISTS:
                self._texts.popitem(last=False)
        return found

    def _settings(self) -> Hashable:
        """Return the options on which the embeddings depend."""
        return None

    def _embed(self, prompts: Sequence[str]) -> Any:
        """Embed prompts, in the order in which they are given."""
        raise NotImplementedError
