"""Regions of an image's colours, and a majority vote within each."""

from torch import Tensor

import lpprop
from lpprop.inputs.superpixels import felzenszwalb, slic

from .views import View

#: Regions by name: of Felzenszwalb and Huttenlocher (2004) by their scale, of SLIC by their number.
FELZENSZWALB = {f"Felzenszwalb, {scale}": scale for scale in (30, 100, 300)}
SLIC = {f"SLIC, {count}": count for count in (150, 400, 1000)}

MAJORITY_VOTE = lpprop.RegionVote(by="vote")


def regions(view: View, name: str, image: Tensor) -> Tensor:
    """Segment an image (1, 3, H, W) of the view: labels (1, H, W) from 0."""

    def make() -> Tensor:
        if name in SLIC:
            return slic(image, n_segments=SLIC[name])
        return felzenszwalb(image, scale=FELZENSZWALB[name])

    return view.once((name, image.shape), make)
