"""What a backbone is, for JSON, so that one that differs is told apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lpprop.backbones.frozen import Frozen

__all__ = ["describe_model", "describe_settings", "hash_weights", "model_fingerprint"]


def model_fingerprint(model: nn.Module) -> dict[str, Any]:
    """Describe a backbone: its class, its settings (plain attributes), a hash of its weights.

    One with a `fingerprint()` describes itself. Where networks of this package are within it, such
    as in a module of the user's own, "parts" has the settings of each.

    >>> from lpprop.backbones import EfficientNetLite0
    >>> fingerprint = model_fingerprint(EfficientNetLite0())
    >>> fingerprint["class"], fingerprint["settings"]["patch_size"]
    ('EfficientNetLite0', 16)
    """
    own = getattr(model, "fingerprint", None)
    return dict(own()) if callable(own) else describe_model(model)


def describe_model(model: nn.Module) -> dict[str, Any]:
    """Describe a backbone as `model_fingerprint` does, whatever it says of itself."""
    parts = {
        name: describe_settings(part)["settings"]
        for name, part in model.named_modules()
        if part is not model and isinstance(part, Frozen)
    }
    return {
        **describe_settings(model),
        **({"parts": parts} if parts else {}),
        "weights": hash_weights(model),
    }


def describe_settings(model: nn.Module) -> dict[str, Any]:
    """Describe a backbone's class and settings.

    >>> describe_settings(nn.ReLU())
    {'class': 'ReLU', 'settings': {'inplace': False}}
    """
    # The batch size does not change what a model sees in an image; torch has attributes of its own.
    ignored = {"max_bytes", *vars(nn.Module())}
    plain = {name: value for name, value in vars(model).items() if name not in ignored}
    settings = {name: value for name, value in plain.items() if _is_plain(value)}
    return {"class": type(model).__name__, "settings": settings}


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        # A cache that is empty, and will hold tensors, is no setting.
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
