"""What all networks here share: they are frozen, and check images and memory before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lpprop._core.checks import check_tensors
from lpprop._core.convert import as_image
from lpprop._core.errors import InputError
from lpprop._core.memory import available_bytes
from lpprop._core.options import check_integer
from lpprop._core.precision import uncompiled
from lpprop.backbones.stored_files import check_colours

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["Frozen"]


class Frozen(nn.Module):
    """A model that is never trained, takes images in [0, 1] and normalises them itself.

    Args:
        mean: red, green and blue mean, in [0, 1], of the images that the weights were trained on.
        std: their standard deviation, in [0.001, 1].
        max_bytes: bound on the activations of what is computed at once.

    Attributes:
        commit: the commit of the repository from which `from_pretrained` loaded; else None.

    Raises:
        InputError: an option that cannot be used.
    """

    commit: str | None = None

    def __init__(
        self, *, mean: Sequence[float], std: Sequence[float], max_bytes: int = 2**30
    ) -> None:
        super().__init__()
        self.max_bytes = check_integer("max_bytes", max_bytes)
        # Plain numbers, not buffers: images are normalised in float32, whatever the dtype.
        self._mean, self._std = check_colours("mean", mean), check_colours("std", std)

    def __repr__(self) -> str:
        model, weights = getattr(self, "model", None), next(self.parameters(), None)
        parts = {
            "model": None if model is None else type(model).__name__,
            **self._describe(),
            "mean": tuple(round(x, 3) for x in self._mean),
            "std": tuple(round(x, 3) for x in self._std),
            "dtype": None if weights is None else weights.dtype,
            "device": None if weights is None else weights.device,
            "commit": self.commit,
        }
        listed = ", ".join(f"{name}={value}" for name, value in parts.items() if value is not None)
        return f"{type(self).__name__}({listed})"

    def train(self, mode: bool = True) -> Frozen:
        """Stay in evaluation mode."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which the model computes."""
        return next(self.parameters()).dtype

    def _describe(self) -> dict[str, object]:
        """Return what the repr says beside the model and its colours."""
        return {}

    def _take(
        self, image: Float[Tensor, "B 3 H W"] | np.ndarray[Any, Any] | Image
    ) -> Float[Tensor, "B 3 H W"]:
        """Return checked images in float32 on the model's device, or refuse them."""
        tensor = as_image(image, like=torch.empty(0, device=self.device))
        check_tensors(image=(tensor, "B 3 H W"))
        if tensor.device != self.device:
            raise InputError.of(
                "image",
                got=f"a tensor on {tensor.device}",
                expected=f"one on {self.device}, where the model is",
                fix=f"Move it with image.to({str(self.device)!r}), or move the model.",
            )
        return tensor.float()

    def _normalise(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Shift and scale the colours, so that 0 is the mean colour."""
        mean, std = (
            torch.tensor(values, device=image.device)[:, None, None]
            for values in (self._mean, self._std)
        )
        return (image - mean) / std

    @uncompiled
    def _check_memory(self, size: tuple[int, int]) -> None:
        """Refuse an image whose activations do not fit into memory, before the model sees it."""
        needed, free = self._item_bytes(size), available_bytes(self.device)
        if free is not None and needed > free:
            raise InputError.of(
                "image",
                got=f"{size[0]} x {size[1]} pixels, for which {type(self).__name__} needs about "
                f"{needed / 2**30:.3g} GiB",
                expected=f"at most the {free / 2**30:.3g} GiB that are free on {self.device}",
                fix="Make it smaller, or show the model windows of it.",
            )

    def _item_bytes(self, size: tuple[int, int]) -> int:
        """Estimate the bytes of activations of one image of this size."""
        raise NotImplementedError
