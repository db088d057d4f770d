"""How the U-Nets of diffusers are built: their stages in the order in which they run."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Stage", "list_stages"]


class Stage(NamedTuple):
    """A stage of a U-Net.

    Attributes:
        path: "down", "mid" or "up".
        module: the stage itself.
        stride: the divisor of the latents' sides in its transformers.
    """

    path: str
    module: Any
    stride: int


def list_stages(unet: Any) -> list[Stage]:
    """List the stages of a `diffusers.UNet2DConditionModel`.

    >>> from diffusers import UNet2DConditionModel
    >>> unet = UNet2DConditionModel(
    ...     block_out_channels=(4, 4), attention_head_dim=2, cross_attention_dim=8,
    ...     norm_num_groups=4, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    ...     up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    >>> [(path, stride) for path, _, stride in list_stages(unet)]
    [('down', 1), ('down', 2), ('mid', 2), ('up', 2), ('up', 1)]
    """
    modules = [("down", module) for module in unet.down_blocks]
    modules += [("mid", module) for module in (unet.mid_block,) if module is not None]
    modules += [("up", module) for module in unet.up_blocks]
    stages, stride = [], 1
    for path, module in modules:
        stages.append(Stage(path, module, stride))
        # A stage changes the size at its end, after its transformers.
        if getattr(module, "downsamplers", None):
            stride *= 2
        if getattr(module, "upsamplers", None):
            stride //= 2
    return stages
