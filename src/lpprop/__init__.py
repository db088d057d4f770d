"""Refine open-vocabulary segmentation: coarse scores in, sharp full-resolution scores out.

scores = lpprop.refine(logits, feats, image)          # (B, C, H, W), ready for argmax
"""

from lpprop._core.errors import InputError, InputWarning
from lpprop._core.scans import value_checks
from lpprop._version import __version__
from lpprop.comparison import Comparison, compare
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.fusion import Fusion
from lpprop.compose.pipeline import refine
from lpprop.inputs.aggregation import aggregate_attention
from lpprop.inputs.attention import attention_from_features, proxy_attention, sharpen_attention
from lpprop.inputs.classes import merge_classes
from lpprop.inputs.colour import lab_features
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import *  # noqa: F403  # a new refiner needs no line here
from lpprop.refiners import __all__ as _refiners

__all__ = [
    "Chain",
    "Comparison",
    "Fusion",
    "InputError",
    "InputWarning",
    "SlidingWindows",
    "__version__",
    "aggregate_attention",
    "attention_from_features",
    "compare",
    "lab_features",
    "merge_classes",
    "presets",
    "proxy_attention",
    "refine",
    "sharpen_attention",
    "value_checks",
    *_refiners,
]
