"""Regions of images: what proposes them, reads them, and works on masks.

A proposer is a function of an image (B, 3, H, W) in [0, 1] that returns regions: an integer map
(B, H, W), negative in no region, or a list with masks (M, H, W) for each image.
"""

from typing import TYPE_CHECKING

from lpprop._core.optional import import_later
from lpprop.inputs.components import components
from lpprop.inputs.fusing import fuse_masks
from lpprop.inputs.points import prompt_points
from lpprop.inputs.superpixels import felzenszwalb, slic
from lpprop.io.regions import load_regions as load
from lpprop.io.sam_masks import from_sam

if TYPE_CHECKING:
    from lpprop.regions.cached import CachedProposer as CachedProposer
    from lpprop.regions.panoptic import Panoptic as Panoptic
    from lpprop.regions.prompted_sam import PromptedSAM as PromptedSAM
    from lpprop.regions.sam import SAM as SAM
    from lpprop.regions.sam import SAM2 as SAM2

__all__ = [
    "SAM",
    "SAM2",
    "CachedProposer",
    "Panoptic",
    "PromptedSAM",
    "components",
    "felzenszwalb",
    "from_sam",
    "fuse_masks",
    "load",
    "prompt_points",
    "slic",
]

# What looks at models, whose import takes long.
if not TYPE_CHECKING:
    __getattr__ = import_later(
        __name__,
        {
            "CachedProposer": "cached",
            "Panoptic": "panoptic",
            "PromptedSAM": "prompted_sam",
            "SAM": "sam",
            "SAM2": "sam",
        },
    )
