"""Refine open-vocabulary segmentation: coarse scores in, sharp full-resolution scores out.

scores = lpprop.refine(logits, feats, image)          # (B, C, H, W), ready for argmax
"""

from lpprop._core.optional import import_later
from lpprop._version import __version__ as __version__
from lpprop.refiners import __all__ as _refiners  # a new refiner needs no line here

# The names beside the refiners', by the file that each is in. All are imported when they are asked
# for, so that `lpprop --help` does not wait for torch; editors and mypy read __init__.pyi, which
# `make derived` writes.
_NAMES = {
    "Chain": "compose.chain",
    "Comparison": "comparison",
    "Fusion": "compose.fusion",
    "InputError": "_core.errors",
    "InputWarning": "_core.errors",
    "SlidingWindows": "inputs.windows",
    "add_background": "inputs.background",
    "aggregate_attention": "inputs.aggregation",
    "attention_from_features": "inputs.feature_attention",
    "classify_regions": "inputs.region_matching",
    "compare": "comparison",
    "correlation_attention": "inputs.feature_attention",
    "fuse_masks": "inputs.fusing",
    "interact": "notebook.interact",
    "lab_features": "inputs.colour",
    "merge_classes": "inputs.classes",
    "presets": "compose",
    "prompt_points": "inputs.points",
    "prototype_logits": "inputs.prototypes",
    "prototypes": "inputs.prototypes",
    "proxy_attention": "inputs.feature_attention",
    "refine": "compose.pipeline",
    "select_classes": "inputs.selection",
    "seed_logits": "inputs.seeds",
    "sharpen_attention": "inputs.attention",
    "show": "viz.display",
    "value_checks": "_core.scans",
}

# The packages beside those names; much of what they import is optional.
_PACKAGES = (
    "backbones", "batch", "cluster", "comparison", "evaluation", "integrations", "io", "models",
    "numerics", "regions", "tiled", "video", "viz",
)  # fmt: skip

__all__ = [*sorted(["__version__", *_NAMES]), *_refiners]

__getattr__ = import_later(
    __name__, dict.fromkeys(_refiners, "refiners") | _NAMES | dict.fromkeys(_PACKAGES, "")
)


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
