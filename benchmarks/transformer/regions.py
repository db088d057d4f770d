"""Regions of pictures by name: of their colours, and of their true classes."""

import numpy as np
import torch
from torch import Tensor

import lpprop
from lpprop.regions import components, felzenszwalb, slic

from .scenes import IGNORED
from .views import View

#: Regions by name: of Felzenszwalb and Huttenlocher (2004) by their scale, of SLIC by their number.
FELZENSZWALB = {f"Felzenszwalb, {scale}": scale for scale in (30, 100, 300)}
SLIC = {f"SLIC, {count}": count for count in (150, 400, 1000)}
#: The connected pieces of the true classes: what the best of masks would be.
TRUE = "true pieces"

MAJORITY_VOTE = lpprop.RegionVote(by="vote")


def regions(view: View, name: str, image: Tensor) -> Tensor:
    """Segment an image (1, 3, H, W) of the view: labels (1, H, W), negative in no region.

    The true pieces are those of the picture at its own size, whatever the image's.
    """

    def make() -> Tensor:
        if name == TRUE:
            gt = view.picture.gt.astype(np.int64)
            return components(torch.from_numpy(np.where(gt == IGNORED, -1, gt))[None])
        if name in SLIC:
            return slic(image, n_segments=SLIC[name])
        return felzenszwalb(image, scale=FELZENSZWALB[name])

    return view.once((name, image.shape), make)
