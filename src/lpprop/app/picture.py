"""An image that a user works on, with what the networks saw in it, so that a click is quick."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpprop._core.convert import as_image
from lpprop.inputs.superpixels import felzenszwalb

if TYPE_CHECKING:
    from PIL.Image import Image

    from lpprop.backbones.backbone import Backbone, BackboneOutput

__all__ = ["REGIONS", "Picture"]

#: What proposes regions to the methods that vote in them.
REGIONS = "felzenszwalb"

# Outputs of networks that one picture keeps: of the one for clicks, and of a recipe's two.
_KEPT = 3


class Picture:
    """One image of one user.

    It keeps what its networks and its proposer gave; threads may share it.

    Args:
        image: the image at the size that is worked on, RGB.
        scaled: whether it was made smaller than the file that it comes from.

    Attributes:
        key: a name that no other picture has.
        size: (H, W).

    >>> from PIL import Image
    >>> Picture(Image.new("RGB", (40, 30))).size
    (30, 40)
    """

    def __init__(self, image: Image, scaled: bool = False) -> None:
        self.image, self.scaled = image, scaled
        self.key = uuid.uuid4().hex
        self.size = image.height, image.width
        self._seen: OrderedDict[tuple[Any, ...], BackboneOutput] = OrderedDict()
        self._regions: Tensor | None = None
        self._lock = threading.RLock()  # an example is shared by all users

    def see(self, model: Backbone, image: Any = None, classes: Any = None) -> BackboneOutput:
        """Return what a network sees in the picture; the last few outputs are kept.

        A segmenter takes this method as its `call_model`.

        Args:
            model: the network.
            image: the picture as a segmenter resized or cut it; the picture itself if None.
            classes: the classes to score, if any.
        """
        shape = self.size if image is None else tuple(image.shape)
        key = (id(model), shape, None if classes is None else tuple(classes))
        with self._lock:
            if key not in self._seen:
                given = self.image if image is None else image
                self._seen[key] = model(given) if classes is None else model(given, classes)
                while len(self._seen) > _KEPT:
                    self._seen.popitem(last=False)
            self._seen.move_to_end(key)
            return self._seen[key]

    def regions(self) -> Tensor:
        """Return the picture's regions (1, H, W), which are found once.

        Raises:
            ImportError: scikit-image is not installed.
        """
        with self._lock:
            if self._regions is None:
                self._regions = felzenszwalb(as_image(self.image, like=torch.empty(0)))
            return self._regions
