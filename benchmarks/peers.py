"""Other methods for the pixel step's task, with results of their own: DenseCRF and PAMR.

DenseCRF is left out if pydensecrf2 is not installed.
"""

from functools import partial
from importlib.util import find_spec

from torch import Tensor

import lpprop

from .pamr import pamr_gathered
from .work import Competitor, aim

DENSECRF = find_spec("pydensecrf") is not None
ITERATIONS = 5


def pixel_peers(device: str, probabilities: Tensor, image: Tensor) -> list[Competitor]:
    """Competitors for (C, H, W) probabilities and a (3, H, W) image, both on the CPU."""
    peers = []
    if DENSECRF:
        note = f"pydensecrf2, {ITERATIONS} iterations, sxy 3 compat 3, sxy 80 srgb 13 compat 10, "
        run = partial(dense_crf, probabilities, image)
        peers.append(("DenseCRF", note + "one CPU thread", run, 2))
    on_device = probabilities.to(device), image.to(device)
    note = f"torch, {ITERATIONS} iterations, dilations 8 and 16, "
    for name, how, function in (
        ("PAMR, gathered", "the neighbours of every pixel brought together", pamr_gathered),
        ("PAMR, added", "lpprop.pamr, one neighbour after the other", pamr),
    ):
        peers.append((name, note + how, partial(function, *on_device, iterations=ITERATIONS), 1))
    return [
        Competitor(name, note, run, target=aim(device, target), comparable=False)
        for name, note, run, target in peers
    ]


def pamr(scores: Tensor, image: Tensor, **options: int) -> Tensor:
    return lpprop.pamr(scores[None], image[None], **options)[0]


def dense_crf(probabilities: Tensor, image: Tensor) -> Tensor:
    """(C, H, W) -> (C, H, W), at the defaults, which are the settings of pydensecrf's example."""
    options = {"scale": None, "iterations": ITERATIONS}
    return lpprop.dense_crf(probabilities[None], image[None], **options)[0]
