"""Regions of an image's colours, and a majority vote within each."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .views import View

#: Regions by name: of Felzenszwalb and Huttenlocher (2004) by their scale, of SLIC by their number.
FELZENSZWALB = {f"Felzenszwalb, {scale}": scale for scale in (30, 100, 300)}
SLIC = {f"SLIC, {count}": count for count in (150, 400, 1000)}


def regions(view: View, name: str, image: Tensor) -> Tensor:
    """Segment an image (1, 3, H, W) of the view: labels (1, H, W) from 0."""

    def make() -> Tensor:
        from skimage.segmentation import felzenszwalb, slic

        pixels = image[0].permute(1, 2, 0).double().numpy()
        if name in SLIC:
            found = slic(pixels, n_segments=SLIC[name], start_label=0)
        else:
            found = felzenszwalb(pixels, scale=FELZENSZWALB[name], sigma=0.5, min_size=50)
        return torch.from_numpy(np.ascontiguousarray(found)).long()[None]

    return view.once((name, image.shape), make)


class MajorityVote(nn.Module):
    """Give each region the class that most of its pixels have, as one-hot scores."""

    needs = ("regions",)

    def forward(self, logits: Tensor, *, regions: Tensor) -> Tensor:
        count, classes = int(regions.max()) + 1, logits.shape[1]
        pairs = regions * classes + logits.argmax(1)
        votes = torch.bincount(pairs.flatten(), minlength=count * classes).view(count, classes)
        return F.one_hot(votes.argmax(1)[regions], classes).movedim(-1, 1).to(logits.dtype)
