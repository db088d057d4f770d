"""Regions that are proposed once per image, and kept on disk: for data sets.

start = lambda sample: Start(scores[sample.name], regions=CachedProposer("slic", Path("regions")))
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError, warn
from lpprop.backbones.fingerprints import model_fingerprint
from lpprop.inputs.proposals import Proposal
from lpprop.inputs.regions import Regions, as_regions, check_regions
from lpprop.io.atomic import atomic_write, remove_abandoned

__all__ = ["CachedProposer", "describe_proposer"]


class CachedProposer:
    """Propose the regions of each image once, and read them from a folder from then on.

    A file is named after a hash of the image's pixels and of what the proposer is: its name and
    options, a model's weights, or what its `fingerprint()` returns. A function that is edited keeps
    its name: give it another folder then. Files of several proposers may share a folder, and
    several processes may use it at once. A damaged file is made again, with a warning.

    Args:
        proposer: a function of the image, as `lpprop.refine` takes it, or its name, such as "slic".
            Functions of image and scores cannot be kept: their regions depend on the scores.
        folder: where the files are; it is made if missing.

    Attributes:
        proposer: the function.
        folder: the folder.

    Raises:
        InputError: no function of the image alone, or one that its name does not tell apart: a
            lambda, a function within another, an object without a repr of its own, or an option
            that is an array; a folder that is a file.

    >>> import tempfile
    >>> from lpprop.inputs.superpixels import slic
    >>> image = torch.rand(1, 3, 24, 32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cached = CachedProposer(functools.partial(slic, n_segments=12), folder)
    ...     torch.equal(cached(image), cached(image)), len(list(Path(folder).iterdir()))
    (True, 1)
    """

    def __init__(self, proposer: Callable[..., Any] | str, folder: Path | str) -> None:
        proposal = Proposal(proposer)
        if proposal.asks_for_scores:
            raise InputError.of(
                "proposer",
                got=f"{proposal.name}, a function of image and scores",
                expected="a function of the image alone",
                fix="Its regions differ with the scores, so they are not kept: pass it itself.",
            )
        self.proposer = proposal.proposer
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError.of(
                "folder",
                got=f"{self.folder}, which is a file",
                expected="a folder, or a path where one can be made",
                fix="Name another one.",
            )
        self._described = describe_proposer(self.proposer)

    def __repr__(self) -> str:
        named = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(self.proposer))
        return f"CachedProposer({named}, {str(self.folder)!r})"

    def __call__(self, image: Float[Tensor, "B 3 H W"]) -> Regions:
        """Return the regions of each image, on its device.

        Raises:
            InputError: no image in [0, 1], a proposer that returns no regions of it, or integers
                for some images of a batch and masks for others.
        """
        check_tensors(image=(image, "B 3 H W"))
        found = [self._of_one(one) for one in image.split(1)]
        maps = [regions for regions in found if isinstance(regions, Tensor)]
        if not maps:
            return [masks for regions in found for masks in regions]
        if len(maps) < len(found):
            raise InputError.of(
                "proposer",
                got=f"integer maps for {len(maps)} of {len(found)} images, masks for the others",
                expected="the same kind for all images of a batch",
                fix="Pass the images one by one.",
            )
        return torch.cat(maps)

    def fingerprint(self) -> dict[str, Any]:
        """Describe the proposer; where its regions are kept does not change them."""
        return self._described

    def _of_one(self, image: Float[Tensor, "1 3 H W"]) -> Regions:
        path = self.folder / f"{self._key(image)}.npz"
        if path.exists():
            try:
                regions = as_regions(_read(path).to(image.device), image)
                check_regions(regions, image)
            except Exception as error:  # decoders raise zlib.error, KeyError and more
                warn(
                    "damaged cache",
                    f"{path}: cannot be read ({str(error)[:150]}). The regions are proposed again, "
                    "and the file is replaced.",
                )
            else:
                return regions
        regions = _storable(Proposal(self.proposer)(image, image))
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned(self.folder)
        with atomic_write(path) as file:
            np.savez_compressed(file, **_as_arrays(regions))
        return regions

    def _key(self, image: Tensor) -> str:
        digest = hashlib.sha256(json.dumps(self._described, sort_keys=True, default=str).encode())
        digest.update(f"{image.dtype} {tuple(image.shape)}".encode())
        plain = image.detach().cpu().contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:40]


def describe_proposer(proposer: Callable[..., Any]) -> dict[str, Any]:
    """Describe a proposer for JSON, so that one that differs is told apart.

    Args:
        proposer: one with a `fingerprint()` describes itself. A model is described by its settings
            and weights, a function by its name, a partial one by its options too, anything else by
            its repr.

    Raises:
        InputError: what says too little of itself: a lambda or a function within another, an object
            without a repr of its own, an option that is an array.

    >>> from lpprop.inputs.superpixels import slic
    >>> describe_proposer(functools.partial(slic, n_segments=12))
    {'function': 'lpprop.inputs.superpixels.slic', 'args': [], 'options': {'n_segments': '12'}}
    """
    if callable(own := getattr(proposer, "fingerprint", None)):
        return dict(own())
    if isinstance(proposer, nn.Module):
        return model_fingerprint(proposer)
    if isinstance(proposer, functools.partial):
        return describe_proposer(proposer.func) | {
            "args": [_describe_option(value) for value in proposer.args],
            "options": {
                name: _describe_option(value) for name, value in sorted(proposer.keywords.items())
            },
        }
    owner = getattr(proposer, "__self__", None)
    if owner is not None and hasattr(proposer, "__func__"):
        return describe_proposer(owner) | {"method": proposer.__name__}
    name = getattr(proposer, "__qualname__", None)
    if name is None:
        return {"object": _tell(proposer)}
    if "<" in name:
        raise _untold(f"the function {name}, which its name does not tell apart from others")
    return {"function": f"{proposer.__module__}.{name}"}


def _describe_option(value: object) -> object:
    """Describe a model or a function as a proposer is described, anything else by its repr."""
    return describe_proposer(value) if callable(value) else _tell(value)


def _tell(value: object) -> str:
    text = repr(value)
    if re.search(r" at 0x[0-9a-fA-F]+|\b(tensor|array)\(", text):
        raise _untold(f"{text[:80]}, whose repr does not tell it apart from others")
    return text


def _untold(held: str) -> InputError:
    return InputError.of(
        "proposer",
        got=held,
        expected="a function of a module, functools.partial of one, or an object with "
        "fingerprint()",
        fix="Define a function with def in a module of yours; give an object, or what holds "
        "arrays, a method fingerprint() that returns a dict.",
    )


def _storable(regions: Regions) -> Regions:
    """Return soft masks in a precision that NumPy has, as they come from a file later."""
    if isinstance(regions, Tensor):
        return regions
    return [
        masks.detach().float() if masks.dtype.itemsize == 2 else masks.detach() for masks in regions
    ]


def _as_arrays(regions: Regions) -> dict[str, Any]:
    """Return the regions of one image as small arrays."""
    if isinstance(regions, Tensor):
        labels = regions[0].cpu().numpy()
        small = labels.min() >= -(2**15) and labels.max() < 2**15
        return {"map": labels.astype(np.int16) if small else labels}
    masks = regions[0].cpu()
    if masks.dtype == torch.bool:
        return {"bits": np.packbits(masks.numpy()), "shape": np.array(masks.shape)}
    return {"soft": masks.numpy()}


def _read(path: Path) -> Tensor:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if "map" in arrays:
            return torch.from_numpy(arrays["map"].astype(np.int64))
        if "soft" in arrays:
            return torch.from_numpy(arrays["soft"])
        shape = tuple(arrays["shape"].tolist())
        bits = np.unpackbits(arrays["bits"], count=int(np.prod(shape)))
        return torch.from_numpy(bits.astype(bool).reshape(shape))
