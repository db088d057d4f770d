"""What the backbones see in a picture: features and attention, whole and in windows."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import lpprop
from lpprop.backbones import EfficientNetLite0, VisionTransformer
from lpprop.evaluation.fingerprints import hash_weights

from .scenes import Picture
from .store import Store

PATCH = 14
FEATURES = ("token", "key", "query", "value")
CNN = "CNN"


class Backbones:
    """DINOv2 and EfficientNet-Lite0, loaded when a picture is first seen."""

    def __init__(self, weights: Path) -> None:
        self.weights = weights

    @cached_property
    def _transformer(self) -> Any:
        return VisionTransformer.from_pretrained(str(self.weights), dtype=torch.float32).model

    @cached_property
    def cnn(self) -> EfficientNetLite0:
        return EfficientNetLite0()

    def transformer(self, **options: Any) -> VisionTransformer:
        """The one model, read in some way; DINOv2's colours are the class's defaults."""
        return VisionTransformer(self._transformer, **options)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """A hash of the weights of each model."""
        return {"DINOv2": hash_weights(self._transformer), CNN: hash_weights(self.cnn)}


class View:
    """A picture as the refiners get it. Names of windows are those of its `Sizes`; None: whole."""

    def __init__(self, picture: Picture, store: Store, backbones: Backbones) -> None:
        self.picture, self.store, self.backbones = picture, store, backbones
        self.kept: dict[Any, Any] = {}

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """Keep what is made for as long as the view lives."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def image(self, windows: str | None = None) -> Tensor:
        """The image (1, 3, H, W) at the size of the whole, or at that which the windows cut."""
        size = self.picture.sizes.wide if windows else self.picture.whole
        return self.once(
            ("image", windows is None),
            lambda: F.interpolate(self.picture.image, size, mode="bilinear", antialias=True).clamp(
                0, 1
            ),
        )

    def padded(self, patch: int) -> Tensor:
        """The image itself, its last row and column repeated up to whole patches."""
        below, right = (-side % patch for side in self.picture.size)
        return F.pad(self.picture.image, (0, right, 0, below), mode="replicate")

    def windows(self, name: str) -> lpprop.SlidingWindows:
        window, stride = next(x[1:] for x in self.picture.sizes.windows if x[0] == name)
        return lpprop.SlidingWindows(self.picture.sizes.wide, window, stride)

    def crops(self, windows: str | None) -> Tensor:
        """The whole image, or all windows of it."""
        image = self.image(windows)
        return image if windows is None else self.windows(windows).split(image)

    def feats(self, name: str, windows: str | None = None) -> Tensor:
        """Features (1 or n, D, h, w): of a kind in `FEATURES`, or those of the CNN."""

        def make() -> Tensor:
            crops = self.crops(windows)
            grid = (crops.shape[-2] // PATCH, crops.shape[-1] // PATCH)
            if name != CNN:
                found = self.backbones.transformer(features=name, attention=None)(crops).feats
                assert found is not None
                return found
            # The CNN's cells have 16 pixels: it sees the image larger, so that its grid is that of
            # the patches. Where it rounds to another one, the features are resized.
            size = (16 * grid[0], 16 * grid[1])
            seen = F.interpolate(crops, size, mode="bilinear", antialias=True).clamp(0, 1)
            found = self.backbones.cnn(seen).feats
            assert found is not None
            return lpprop.bilinear_upsample(found, grid) if found.shape[-2:] != grid else found

        return self._stored("CNN" if name == CNN else "DINOv2", f"feats {name}", windows, make)

    def attention(self, name: str) -> Tensor:
        """Attention (1, N, N), by names such as "query-key last", "key-key all", "token 0.1".

        The first two are those of the model's blocks; the last is made from features, at a
        temperature.
        """
        kind, which = name.split(" ")
        if kind in (*FEATURES, CNN):
            return self.once(
                name, lambda: lpprop.attention_from_features(self.feats(kind), float(which))
            )
        blocks: Any = "all" if which == "all" else (-1,)

        def make() -> Tensor:
            model = self.backbones.transformer(features=None, attention=kind, blocks=blocks)
            found = model(self.image()).attention
            assert found is not None
            return found

        return self._stored("DINOv2", f"attention {name}", None, make)

    def _stored(
        self, model: str, setting: str, windows: str | None, make: Callable[[], Tensor]
    ) -> Tensor:
        picture = self.picture
        seen: Any = picture.whole
        if windows is not None:
            given = self.windows(windows)
            seen = [given.image_size, given.window, given.stride]
        key = {
            "image": picture.hash, "model": self.backbones.hashes[model],
            "setting": setting, "seen": seen,
        }  # fmt: skip
        return self.once((setting, windows), lambda: self.store.get(key, make))
