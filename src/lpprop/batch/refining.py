"""`lpprop.refine` of many images, as an object that an engine maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpprop._core.convert import as_grid, as_tensor
from lpprop._core.refiner import COMMON
from lpprop.batch.base import BatchMap
from lpprop.batch.inputs import as_picture, check_proposer
from lpprop.compose.pipeline import as_chain, refine
from lpprop.inputs.background import check_background
from lpprop.inputs.table import INPUTS
from lpprop.models.requirements import check_takes_regions
from lpprop.regions.named import find_proposer

__all__ = ["Refine"]

# What `lpprop.refine` takes of each item beside the inputs.
_SIZES = ("size", "span")


class Refine(BatchMap):
    """Refine the scores of many images, batch by batch, in any process.

        refine = lpprop.batch.Refine("lposs", k=20)
        out = refine({"logits": logits, "feats": feats, "image": images, "name": names})
        out["labels"], out["error"], out["name"]

    The columns that it takes have the names of `lpprop.refine`'s inputs: "logits", "feats",
    "image", "attention", those of the method, such as "regions", and "size" and "span". An entry is
    what a call of `lpprop.refine` takes for one image, without the batch's axis: logits (C, h, w),
    feats (D, h', w'), and so on, None where an image has none. Images may also be encoded (the
    bytes of a file) or paths. They are taken as they are stored, without their EXIF orientation,
    since logits and feats belong to these pixels.

    Each item has the bits that `lpprop.refine` gives in a new process, whatever is in its batch.
    An item that fails has its reason in the column "error", "" for all others, and outputs of size
    0. Other columns pass through. `process(item)` maps a single item, a dictionary of its entries.

    Args:
        method: as `lpprop.refine` takes it. A callable that goes to other processes has to pickle.
        outputs: of "labels" and "scores". Labels are (H, W) uint16, the argmax of the scores;
            scores are (C, H, W).
        background: as `lpprop.refine` takes it.
        regions: what proposes regions to a method that takes them, for images that come without: a
            function of the image, or a name such as "slic" or "sam2-hiera-tiny".
        keep: inputs that the result holds too, such as ["image"]; others are left out, since feats
            are many times larger than labels.
        device: where the workers compute: "auto" is the GPU that the engine has given to the
            worker, or the CPU if there is none.
        options: options of the preset.

    Attributes:
        outputs: as given.
        keep: as given.
        device: as given; the device itself is chosen by the worker.

    Raises:
        InputError: a method, an option, an output or a device that cannot be used, before any item.

    >>> refine = Refine("bilinear", outputs=["labels", "scores"])
    >>> sizes = [(48, 64), (32, 32)]
    >>> out = refine({
    ...     "logits": [np.ones((2, 3, 4), np.float32), np.ones((2, 2, 2), np.float32)],
    ...     "size": sizes, "name": ["a", "b"],
    ... })
    >>> [labels.shape for labels in out["labels"]], out["error"], out["name"]
    ([(48, 64), (32, 32)], ['', ''], ['a', 'b'])
    >>> refine.process({"logits": np.ones((2, 3, 4), np.float32)})["error"]
    'image: got None, and no size, expected an image, or the size of the result. Pass image=, or
    size=(H, W).'
    """

    def __init__(
        self,
        method: str | Callable[..., Tensor] = "auto",
        *,
        outputs: Sequence[str] = ("labels",),
        background: float | None = None,
        regions: str | Callable[..., Any] | None = None,
        keep: Sequence[str] = (),
        device: str | torch.device = "auto",
        **options: Any,
    ) -> None:
        if background is not None:
            background = check_background("background", background)
        if regions is not None:
            check_proposer(regions)
            check_takes_regions(as_chain(method, **options))
        config = {
            "method": method, "background": background, "regions": regions, "options": options,
        }  # fmt: skip
        super().__init__(outputs=outputs, keep=keep, device=device, **config)

    def _names_of(self, config: Mapping[str, Any]) -> list[str]:
        takes = as_chain(config["method"], **config["options"]).takes
        known = dict.fromkeys((*COMMON, *INPUTS, *sorted(takes.names)))
        of_background = {"saliency"} if config["background"] is not None else set()
        taken = [
            name for name in known if name in (*COMMON, "windows", *of_background) or name in takes
        ]
        return ["logits", *taken, *_SIZES]

    def _required(self) -> tuple[str, ...]:
        return ("logits",)

    def _load(self, device: torch.device) -> None:
        regions = self.config["regions"]
        named = isinstance(regions, str)
        self._proposer = find_proposer(regions, device=device) if named else regions

    def _score(self, item: dict[str, Any]) -> Tensor:
        assert self._on is not None
        logits = as_grid("logits", item.pop("logits")).to(self._on)
        sizes = {name: _as_pair(item.pop(name, None)) for name in _SIZES}
        if item.get("image") is not None:
            item["image"] = as_picture(item["image"], upright=False)
        if item.get("regions") is None and self._proposer is not None:
            item["regions"] = self._proposer
        inputs = {name: self._move(name, value) for name, value in item.items()}
        return refine(
            logits, method=self.config["method"], background=self.config["background"],
            **sizes, **inputs, **self.config["options"],
        )  # fmt: skip

    def _move(self, name: str, value: Any) -> Any:
        """Bring an input to the device of the logits, where `lpprop.refine` does not do so."""
        if isinstance(value, np.ndarray) and name not in ("image", "regions", "region_scores"):
            value = as_tensor(name, value)
        if isinstance(value, (list, tuple)):  # of masks
            return [self._move(name, one) for one in value]
        if not isinstance(value, Tensor):
            return value
        # `lpprop.refine` adds the batch's axis to the inputs that it knows.
        return (value if name in INPUTS else value[None]).to(self._on)


def _as_pair(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, Tensor)) else value
