"""Regions of images: what proposes them, reads them, and works on masks.

A proposer is a function of an image (B, 3, H, W) in [0, 1] that returns regions: an integer map
(B, H, W), negative in no region, or a list with masks (M, H, W) for each image.
"""

from lpprop.inputs.components import components
from lpprop.inputs.fusing import fuse_masks
from lpprop.inputs.points import prompt_points
from lpprop.inputs.superpixels import felzenszwalb, slic
from lpprop.io.regions import load_regions as load
from lpprop.io.sam_masks import from_sam
from lpprop.regions.cached import CachedProposer

__all__ = [
    "CachedProposer",
    "components",
    "felzenszwalb",
    "from_sam",
    "fuse_masks",
    "load",
    "prompt_points",
    "slic",
]
