"""Other methods for the pixel step's task: DenseCRF and PAMR, whose results are others.

DenseCRF is left out where pydensecrf2 is not installed.
"""

from functools import partial
from importlib.util import find_spec

import numpy as np
from torch import Tensor

from .contract import Competitor, aim
from .pamr import pamr, pamr_gathered

# A peer that is there but does not import is an error, not a peer to leave out.
densecrf = None
if find_spec("pydensecrf"):
    from pydensecrf import densecrf

ITERATIONS = 5


def pixel_peers(device: str, probabilities: Tensor, image: Tensor) -> list[Competitor]:
    """(C, H, W) probabilities, (3, H, W) image, both on the CPU."""
    peers = []
    if densecrf:
        note = f"pydensecrf2, {ITERATIONS} iterations, sxy 3 compat 3, sxy 80 srgb 13 compat 10, "
        arrays = probabilities.numpy(), image.numpy()
        peers.append(("DenseCRF", note + "one CPU thread", partial(dense_crf, *arrays)))
    on_device = probabilities.to(device), image.to(device)
    note = f"torch, {ITERATIONS} iterations, dilations 8 and 16, "
    for name, how, function in (
        ("PAMR, gathered", "the neighbours of every pixel brought together", pamr_gathered),
        ("PAMR, added", "one neighbour after the other, a class at a time", pamr),
    ):
        peers.append((name, note + how, partial(function, *on_device, iterations=ITERATIONS)))
    return [Competitor(*peer, target=aim(device, 1), comparable=False) for peer in peers]


def dense_crf(probabilities: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Mean-field inference at the settings of pydensecrf's example: (C, H, W) -> (C, H W)."""
    C, H, W = probabilities.shape
    model = densecrf.DenseCRF2D(W, H, C)
    unary = -np.log(probabilities.clip(1e-5, 1)).reshape(C, -1)
    model.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    model.addPairwiseGaussian(sxy=3, compat=3)
    rgb = (255 * image.transpose(1, 2, 0)).round().astype(np.uint8, order="C")
    model.addPairwiseBilateral(sxy=80, srgb=13, rgbim=rgb, compat=10)
    return np.array(model.inference(ITERATIONS))
