"""Refine open-vocabulary segmentation: coarse scores in, sharp full-resolution scores out.

scores = lpprop.refine(logits, feats, image)          # (B, C, H, W), ready for argmax
"""

from typing import TYPE_CHECKING

from lpprop._core.errors import InputError, InputWarning
from lpprop._core.optional import import_later
from lpprop._core.scans import value_checks
from lpprop._version import __version__
from lpprop.comparison import Comparison, compare
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.fusion import Fusion
from lpprop.compose.pipeline import refine
from lpprop.inputs.aggregation import aggregate_attention
from lpprop.inputs.attention import sharpen_attention
from lpprop.inputs.background import add_background
from lpprop.inputs.classes import merge_classes
from lpprop.inputs.colour import lab_features
from lpprop.inputs.feature_attention import (
    attention_from_features,
    correlation_attention,
    proxy_attention,
)
from lpprop.inputs.fusing import fuse_masks
from lpprop.inputs.points import prompt_points
from lpprop.inputs.prototypes import prototype_logits, prototypes
from lpprop.inputs.region_matching import classify_regions
from lpprop.inputs.seeds import seed_logits
from lpprop.inputs.selection import select_classes
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import *  # noqa: F403  # a new refiner needs no line here
from lpprop.refiners import __all__ as _refiners

if TYPE_CHECKING:
    from lpprop import backbones as backbones
    from lpprop import comparison as comparison
    from lpprop import evaluation as evaluation
    from lpprop import integrations as integrations
    from lpprop import io as io
    from lpprop import models as models
    from lpprop import numerics as numerics
    from lpprop import regions as regions
    from lpprop import video as video
    from lpprop import viz as viz
    from lpprop.viz.display import show

__all__ = [
    "Chain",
    "Comparison",
    "Fusion",
    "InputError",
    "InputWarning",
    "SlidingWindows",
    "__version__",
    "add_background",
    "aggregate_attention",
    "attention_from_features",
    "classify_regions",
    "compare",
    "correlation_attention",
    "fuse_masks",
    "lab_features",
    "merge_classes",
    "presets",
    "prompt_points",
    "prototype_logits",
    "prototypes",
    "proxy_attention",
    "refine",
    "seed_logits",
    "select_classes",
    "sharpen_attention",
    "show",
    "value_checks",
    *_refiners,
]

# Packages beside those names; what they import takes long, and much of it is optional.
_PACKAGES = (
    "backbones", "comparison", "evaluation", "integrations", "io", "models", "numerics", "regions",
    "video", "viz",
)  # fmt: skip

if not TYPE_CHECKING:
    __getattr__ = import_later(__name__, dict.fromkeys(_PACKAGES, "") | {"show": "viz.display"})


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])
