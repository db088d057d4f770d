"""The local CRF beside the same model on a permutohedral lattice, by DenseCRF and by MONAI.

DenseCRF's lattice runs on one thread of a CPU. MONAI's runs on a GPU, too. Its wheels lack the
compiled part, and its source distribution lacks the code, so the repository has to be built, with
the CUDA compiler of torch's version:

    pip install ninja setuptools versioneer wheel
    BUILD_MONAI=1 pip install --no-build-isolation --no-deps git+https://github.com/Project-MONAI/MONAI
"""

from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

import lpprop

from .inputs import pixels
from .peers import DENSECRF, ITERATIONS, dense_crf
from .pixel_step import BACKENDS
from .work import Competitor, Work

MONAI = find_spec("monai") is not None and find_spec("monai._C") is not None
WITHOUT_MONAI = "The permutohedral CRF is left out: MONAI with its compiled part is not installed."
# Its filter takes no more channels than these on a GPU.
CHANNELS = 16


def random_field(device: str, **sizes: int) -> Work:
    inputs = pixels(**sizes)
    probabilities, image = inputs.pixel_logits.to(device), inputs.image.to(device)
    options = {"scale": None, "iterations": ITERATIONS}
    others = []
    if DENSECRF:
        run = partial(dense_crf, inputs.pixel_logits[0], inputs.image[0])
        others.append(("DenseCRF", "pydensecrf2, one CPU thread, the whole image", run))
    if MONAI:
        note = f"MONAI's filter, {CHANNELS} classes at a time, the whole image"
        others.append(("permutohedral CRF", note, partial(lattice_crf, probabilities, image)))
    return Work(
        name="local CRF",
        sizes=sizes | {"r": 11, "iterations": ITERATIONS},
        tolerance=1e-4,
        competitors=[
            *(
                Competitor(
                    f"lpprop, {backend}",
                    f'local_crf, backend="{backend}", float32',
                    partial(lpprop.local_crf, probabilities, image, backend=backend, **options),
                )
                for backend in BACKENDS[device]
            ),
            *(Competitor(*other, comparable=False) for other in others),
        ],
    )


def lattice_crf(
    probabilities: Tensor,
    image: Tensor,
    *,
    w1: float = 10,
    theta_alpha: float = 80,
    theta_beta: float = 13,
    w2: float = 3,
    theta_gamma: float = 3,
) -> Tensor:
    """(1, C, H, W) -> the same: DenseCRF's mean field, whose kernels are normalised by their rows.

    The defaults are DenseCRF's, as in `lpprop.local_crf`.
    """
    from monai.networks.layers import PHLFilter

    axes = [torch.arange(n, dtype=image.dtype, device=image.device) for n in image.shape[-2:]]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    appearance = torch.cat([place / theta_alpha, 255 * image / theta_beta], 1)
    unary = probabilities.clamp_min(torch.finfo(image.dtype).tiny).log()
    Q = probabilities
    for _ in range(ITERATIONS):
        energy = unary
        for weight, features in ((w1, appearance), (w2, place / theta_gamma)):
            parts = [PHLFilter.apply(part, features) for part in Q.split(CHANNELS, 1)]
            energy = energy + weight * torch.cat(parts, 1)
        Q = energy.softmax(1)
    return Q
