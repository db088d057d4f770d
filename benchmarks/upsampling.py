"""Joint bilateral upsampling against a torch loop and kornia's blur."""

from functools import partial

import kornia
import torch.nn.functional as F

import lpprop

from . import torch_loops
from .inputs import pixels
from .pixel_step import BACKENDS
from .work import Competitor, Work, aim


def upsampling(device: str, h: int, w: int, H: int, W: int, C: int) -> Work:
    inputs = pixels(H, W, C)
    image = inputs.image.to(device)
    x = F.adaptive_avg_pool2d(inputs.pixel_logits.to(device), (h, w))
    bilinear = partial(F.interpolate, x, (H, W), mode="bilinear")
    upsampled = bilinear()
    return Work(
        name="upsampling",
        sizes={"h": h, "w": w, "H": H, "W": W, "C": C},
        # Exponents reach 50, so that weights are known to 50 roundings of themselves, 3e-6.
        tolerance=1e-5,
        competitors=[
            *(
                Competitor(
                    f"lpprop, {backend}",
                    f'joint_bilateral_upsample, backend="{backend}", float32',
                    partial(lpprop.joint_bilateral_upsample, x, image, backend=backend),
                )
                for backend in BACKENDS[device]
            ),
            Competitor(
                "torch, offsets",
                "the same equation, a loop over the 49 offsets",
                partial(torch_loops.upsample_by_offsets, x, image),
            ),
            Competitor(
                "kornia",
                "joint_bilateral_blur, 5x5, of scores that are of full size already",
                partial(
                    kornia.filters.joint_bilateral_blur,
                    upsampled,
                    image,
                    kernel_size=5,
                    sigma_color=0.05**0.5,
                    sigma_space=(1.5, 1.5),
                    color_distance_type="l2",
                ),
                target=aim(device, 1),
                comparable=False,
            ),
            Competitor(
                "bilinear", "torch's interpolate, no image: a floor", bilinear, comparable=False
            ),
        ],
    )
