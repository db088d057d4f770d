"""What a backbone is, for JSON, so that one that differs is told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lpprop.backbones.frozen import Frozen

__all__ = ["hash_weights", "model_fingerprint"]


def model_fingerprint(model: nn.Module) -> dict[str, Any]:
    """Describe a backbone: its class, its settings (plain attributes), a hash of its weights.

    Where networks of this package are within it, such as in a module of the user's own, "parts" has
    the settings of each.

    >>> from lpprop.backbones import EfficientNetLite0
    >>> fingerprint = model_fingerprint(EfficientNetLite0())
    >>> fingerprint["class"], fingerprint["settings"]["patch_size"]
    ('EfficientNetLite0', 16)
    """
    parts = {
        name: _settings(part)
        for name, part in model.named_modules()
        if part is not model and isinstance(part, Frozen)
    }
    return {
        "class": type(model).__name__,
        "settings": _settings(model),
        **({"parts": parts} if parts else {}),
        "weights": hash_weights(model),
    }


def _settings(model: nn.Module) -> dict[str, Any]:
    # The batch size does not change what a model sees in an image.
    ignored = ("training", "max_bytes")
    plain = {name: value for name, value in vars(model).items() if name not in ignored}
    return {name: value for name, value in plain.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        # Torch keeps a module's parts in mappings of its own, many of them empty.
        return bool(value) and all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool))


def hash_weights(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights: names, types, shapes and values.

    >>> hash_weights(nn.Identity())[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
