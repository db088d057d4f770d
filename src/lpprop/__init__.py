"""Refine open-vocabulary segmentation: coarse scores in, sharp full-resolution scores out.

scores = lpprop.refine(logits, feats, image)          # (B, C, H, W), ready for argmax
"""

from lpprop import presets
from lpprop._refine import refine
from lpprop.affinity import lab_features
from lpprop.bilinear import BilinearUpsample, bilinear_upsample
from lpprop.chain import Chain
from lpprop.classes import merge_classes
from lpprop.errors import InputError
from lpprop.label_propagation import (
    PatchPropagation,
    PixelPropagation,
    propagate_patches,
    propagate_pixels,
)
from lpprop.windows import SlidingWindows

__version__ = "0.1.0"

__all__ = [
    "BilinearUpsample",
    "Chain",
    "InputError",
    "PatchPropagation",
    "PixelPropagation",
    "SlidingWindows",
    "__version__",
    "bilinear_upsample",
    "lab_features",
    "merge_classes",
    "presets",
    "propagate_patches",
    "propagate_pixels",
    "refine",
]
