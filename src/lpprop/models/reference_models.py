"""Which model made references, and whether another one may be compared with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lpprop._core.errors import InputError, warn
from lpprop.backbones.backbone import Backbone
from lpprop.backbones.fingerprints import model_fingerprint

__all__ = ["check_feats", "check_same_model", "describe_backbone"]

# What a model may be told without another result in its feats.
_NOT_OF_FEATS = {"attention", "blocks", "commit", "feats_from", "provides"}


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """Describe the model that makes references, as `References.made` has it under "backbone".

    >>> from lpprop.backbones import EfficientNetLite0
    >>> describe_backbone(EfficientNetLite0())["dtype"]
    'torch.float32'
    """
    described = model_fingerprint(backbone) | {"dtype": str(backbone.dtype)}
    # As it comes back from a file: tuples are lists there.
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def check_feats(backbone: object) -> None:
    """Refuse what is no backbone, or provides no feats."""
    provides = backbone.provides if isinstance(backbone, Backbone) else ()
    if "feats" not in provides:
        raise InputError.of(
            "backbone",
            got=type(backbone).__name__
            + (f", which provides {' and '.join(provides)}" if provides else ""),
            expected="a backbone that provides feats",
            fix="Use VisionTransformer, such as DINOv2's.",
        )


def check_same_model(made: object, backbone: Backbone) -> None:
    """Refuse a model whose features cannot be compared with those of another.

    Args:
        made: what `describe_backbone` said of the one that made the references; with anything else,
            which model it was is not known.
        backbone: the one that is to be used with them.

    Raises:
        InputError: a model without feats, of another class, kind of features or with other weights.

    Warns:
        InputWarning: the same model in another precision, or with other settings.
    """
    check_feats(backbone)
    if not isinstance(made, Mapping):
        return
    now = describe_backbone(backbone)
    before, settings = made.get("settings"), now["settings"]
    if not isinstance(before, Mapping):
        before = {}
    kinds = {
        "class": (made.get("class"), now["class"]),
        "features": (before.get("features"), settings.get("features")),
    }
    same_dtype = made.get("dtype") == now["dtype"]
    if same_dtype:
        kinds["weights"] = (str(made.get("weights"))[:12], now["weights"][:12])
    for what, (old, new) in kinds.items():
        if old != new:
            raise InputError.of(
                "references",
                got=f"references of a model of {what} {old}, for one of {what} {new}",
                expected="references that this model made: features of two models cannot be "
                "compared",
                fix="Make them anew with this model, or use the one that made them.",
            )
    if not same_dtype:
        warn(
            "precision of references",
            f"references: got features in {made.get('dtype')}, and a model in {now['dtype']}, "
            "so that it cannot be told whether the weights are the same. Make the references "
            "in this precision to be sure.",
        )
    for name in sorted((before.keys() | settings.keys()) - _NOT_OF_FEATS):
        if before.get(name) != settings.get(name):
            warn(
                "settings of references",
                f"references: got {name} = {before.get(name)} when they were made, and "
                f"{settings.get(name)} now. Build the model alike, or make them anew.",
            )
