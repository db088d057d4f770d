"""Descriptions of predictors and models for JSON, so that one that differs is told apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from lpprop.backbones.fingerprints import hash_weights, model_fingerprint

__all__ = ["describe", "describe_repr", "hash_texts", "hash_weights", "model_fingerprint"]


def describe(described: object) -> dict[str, Any]:
    """Describe a predictor, a start or a method for JSON, so that one that differs is told apart.

    The description is the object's own `fingerprint()`, or else its repr. A function is described
    by its name only: if its result depends on more, use an object with a `fingerprint`.

    >>> describe(describe)
    {'config': '<function describe>'}
    """
    fingerprint = getattr(described, "fingerprint", None)
    return dict(fingerprint()) if callable(fingerprint) else describe_repr(described)


def describe_repr(described: object) -> dict[str, Any]:
    """Describe an object by its repr.

    >>> describe_repr(5)
    {'config': '5'}
    """
    # The address in memory differs between processes.
    return {"config": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(described))}


def hash_texts(texts: Iterable[str]) -> str:
    """Return the SHA-256 of texts in their order.

    >>> hash_texts(["a", "b"]) == hash_texts(["ab"])
    False
    """
    lines = "\n".join(map(str, texts))
    return hashlib.sha256(lines.encode(errors="surrogatepass")).hexdigest()
