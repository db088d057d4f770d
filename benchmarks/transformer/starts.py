"""The starts: prototypes and probes of another drive, relabelled patches, clicks, the oracle."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lpprop.evaluation.analyses import patch_oracle, relabel

from ..camvid.starts import logistic_regression, with_bias
from .scenes import OTHER, PHOTOGRAPHS, Picture
from .views import CNN, PATCH, View

SCALE = 50  # of cosines, before the softmax
CLICKS = 5  # patches of each region
PENALTY = 1e-3  # of the probes' weights
#: What a method may be given: probabilities, or the start as it is before the softmax.
FORMS = ("probabilities", "raw", "scaled", "labels")


@dataclass(frozen=True)
class Start:
    """How a start is made.

    Attributes:
        kind: "prototypes", "probe", "oracle" or "clicks".
        patch: the size of the patches of an oracle that is no backbone's, 0 for the transformer's.
        feats: the features, where there are any.
        images: how many labelled images prototypes are made of.
        share: the share of the patches that are relabelled.
    """

    kind: str
    feats: str = "token"
    images: int = 0
    share: float = 0.0
    patch: int = 0


STARTS: dict[str, Start] = {
    **{
        f"{title} prototypes, {n}": Start("prototypes", feats, n)
        for title, feats in (("CNN", CNN), ("DINOv2", "token"))
        for n in (1, 4, 16)
    },
    "probe": Start("probe"),
    "CNN probe": Start("probe", CNN),
    **{f"relabelled {share} %": Start("oracle", share=share / 100) for share in (20, 40, 60)},
    "oracle": Start("oracle"),
    "clicks": Start("clicks"),
    **{f"{size} px": Start("oracle", patch=size) for size in (8, 14, 16, 32)},
    "truth": Start("oracle", patch=1),
}


class Labelled:
    """The labelled pictures of the drives, from which prototypes and probes are made."""

    def __init__(self, views: Mapping[str, Sequence[View]]) -> None:
        self.views = views  # of each drive, in the order of time

    def fit(self, drive: str, name: str, windows: str | None = None) -> Tensor:
        """Prototypes (C, D), or the weights (D + 1, C) of a probe; from the store if there.

        Prototypes are made of features that are seen as those that they are compared with, in
        windows too, since the CNN standardises its channels over what it sees. A probe is fitted
        to whole images only, which takes long enough.
        """
        start, views = STARTS[name], self.views[drive]
        seen: Any = views[0].picture.whole
        if start.kind == "prototypes":
            views = [views[i] for i in spread(len(views), start.images)]
            seen = [seen, windows and str(views[0].windows(windows))]
        key = {
            "fit": asdict(start), "penalty": PENALTY, "images": [x.picture.hash for x in views],
            "models": views[0].backbones.hashes, "seen": seen,
        }  # fmt: skip
        if start.kind == "prototypes":
            return views[0].store.get(key, lambda: prototypes(views, start.feats, windows))
        return views[0].store.get(key, lambda: probe(views, start.feats))


def spread(count: int, wanted: int) -> list[int]:
    """Numbers of images that are spread evenly: the middle of each of `wanted` equal parts."""
    wanted = min(count, wanted)
    return [int((i + 0.5) * count / wanted) for i in range(wanted)]


def shares(picture: Picture, size: tuple[int, int], box: Sequence[int] | None = None) -> Tensor:
    """How much of each patch each class has (C, h, w), of the image resized, or of a part of it."""
    y1, y2, x1, x2 = box or (0, size[0], 0, size[1])
    gt = cv2.resize(picture.gt, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return patch_oracle(gt[y1:y2, x1:x2], PATCH, picture.classes)


def seen_shares(view: View, windows: str | None) -> list[Tensor]:
    """The `shares` of the whole image, or of each window."""
    height, width = view.image(windows).shape[-2:]
    boxes = [None] if windows is None else view.windows(windows).boxes.tolist()
    return [shares(view.picture, (height, width), box) for box in boxes]


def prototypes(views: Sequence[View], feats: str, windows: str | None) -> Tensor:
    """Mean of each class's unit features, weighted by its share of the patch, as unit vectors.

    A class that no image has is a vector of zeros.
    """
    total: Any = 0
    for view in views:
        x = F.normalize(view.feats(feats, windows), dim=1).flatten(2)
        total = total + torch.einsum(
            "ncp,ndp->cd", torch.stack(seen_shares(view, windows)).flatten(2), x
        )
    return F.normalize(total, dim=1)


def probe(views: Sequence[View], feats: str) -> Tensor:
    """Fit a linear classifier of unit features to the shares of the patches."""
    x = [with_bias(_unit(view.feats(feats)[0])).flatten(1).T.numpy() for view in views]
    y = [shares(view.picture, view.picture.whole).flatten(1).T.double().numpy() for view in views]
    fit = logistic_regression(np.concatenate(x), np.concatenate(y), PENALTY)
    return torch.from_numpy(fit.weights).float()


def raw(view: View, name: str, labelled: Labelled, windows: str | None = None) -> Tensor:
    """Return cosines, logits or shares (1 or n, C, h, w), as the start makes them."""
    start, picture = STARTS[name], view.picture
    if start.kind in ("prototypes", "probe"):
        fitted = view.once(
            (name, "fit", windows), lambda: labelled.fit(OTHER[picture.scene], name, windows)
        )
        feats = view.feats(start.feats, windows)
        if start.kind == "probe":
            scored = [torch.einsum("dc,dhw->chw", fitted.double(), with_bias(_unit(x)))
                      for x in feats]  # fmt: skip
            return torch.stack(scored).float()
        return _cosines(feats, fitted)
    if start.kind == "clicks":
        return _cosines(view.feats(start.feats), _clicked(view, start.feats))
    if start.patch:
        return patch_oracle(picture.gt, start.patch, picture.classes)[None]
    # Windows overlap, and each is relabelled by itself, as a model errs in each by itself.
    found = seen_shares(view, windows)
    if start.share:
        seed = zlib.crc32(picture.name.encode())
        found = [relabel(x, start.share, (seed, number)) for number, x in enumerate(found)]
    return torch.stack(found)


def scores(
    view: View, name: str, labelled: Labelled, form: str, windows: str | None = None
) -> Tensor:
    """Return a start in one of the `FORMS`."""
    z = view.once((name, windows), lambda: raw(view, name, labelled, windows))
    return as_form(z, STARTS[name].kind, form)


def as_form(z: Tensor, kind: str, form: str) -> Tensor:
    """Bring cosines, logits or shares to one of the `FORMS`."""
    if form == "raw":
        return z
    scaled = SCALE * z if kind in ("prototypes", "clicks") else z
    if form == "scaled":
        return scaled
    if form == "labels":
        return F.one_hot(z.argmax(1), z.shape[1]).movedim(-1, 1).to(z.dtype)
    return z if kind == "oracle" else scaled.softmax(1)


def _unit(feats: Tensor) -> Tensor:
    return F.normalize(feats, dim=0)


def _cosines(feats: Tensor, prototypes: Tensor) -> Tensor:
    """Cosines of features (n, D, h, w) and prototypes; -1 for a class without one."""
    found = torch.einsum("cd,ndhw->nchw", prototypes, F.normalize(feats, dim=1))
    return found.masked_fill(~prototypes.any(1)[:, None, None], -1.0)


def _clicked(view: View, feats: str) -> Tensor:
    """Prototypes of a photograph's regions from a few patches of each, drawn at random.

    A patch is of the region that has most of it; a region without a patch of its own gets those
    that it has most of.
    """
    picture = view.picture
    assert picture.scene == PHOTOGRAPHS
    of_patch = shares(picture, picture.whole).flatten(1)
    x = F.normalize(view.feats(feats)[0].flatten(1), dim=0)
    draw = np.random.default_rng(zlib.crc32(picture.name.encode()))
    found = []
    for number, region in enumerate(of_patch):
        own = np.flatnonzero((of_patch.argmax(0) == number) & (region > 0))
        chosen = (
            draw.choice(own, min(CLICKS, len(own)), replace=False)
            if len(own)
            else region.topk(1).indices.numpy()
        )
        found.append(x[:, chosen].mean(1))
    return F.normalize(torch.stack(found), dim=1)
