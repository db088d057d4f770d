"""References that Stable Diffusion draws: classes in words become examples in the image's space.

Wang et al., "Image-to-image matching via foundation models: a new perspective for open-vocabulary
semantic segmentation" (RIM), CVPR 2024. What follows its supplement and what is ours is said at
`references_from_diffusion`; the main paper was not at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lpprop._core.errors import InputError, warn
from lpprop._core.options import check_from_0, check_integer, check_number
from lpprop._core.progress import Progress
from lpprop.backbones.backbone import Backbone
from lpprop.backbones.fingerprints import hash_weights
from lpprop.backbones.prompts import check_templates, parse_classes
from lpprop.inputs.fusing import fuse_masks
from lpprop.inputs.otsu import otsu_threshold
from lpprop.inputs.points import prompt_points
from lpprop.inputs.prototypes import class_means
from lpprop.models.artist import Artist, Drawn, Order, plan_pictures
from lpprop.models.geometry import resize_image, seen_size
from lpprop.models.picture_store import Picture, PictureStore
from lpprop.models.references import References, check_feats, describe_backbone

__all__ = ["PointSegmenter", "references_from_diffusion"]

_FUSED_ABOVE = 0.9


@runtime_checkable
class PointSegmenter(Protocol):
    """A model that segments what is at a point, such as SAM."""

    def masks_at(
        self, image: Float[Tensor, "1 3 H W"], points: Int[Tensor, "n 2"]
    ) -> tuple[Bool[Tensor, "n M H W"], Float[Tensor, "n M"]]:
        """Return the masks at each point (row, column) of an image, with their predicted IoU."""


def references_from_diffusion(
    classes: Sequence[str],
    pipeline: Any,
    sam: PointSegmenter,
    backbone: Backbone,
    *,
    images_per_class: int = 50,
    steps: int = 50,
    guidance: float = 7.5,
    prompts: Sequence[str] = ("a photo of a {}",),
    threshold: float | None = None,
    points: int = 5,
    seed: int = 0,
    side: int | None = None,
    shorter_side: int | None = None,
    folder: str | Path | None = None,
    max_bytes: int = 2**30,
    progress: bool | None = None,
) -> References:
    """Make references of classes in words, from pictures that Stable Diffusion draws of them.

        pipeline = load_diffusion_pipeline().to("cuda")
        sam = lpprop.regions.SAM.from_pretrained("sam-vitb").to("cuda")
        dinov2 = VisionTransformer.from_pretrained("dinov2-vitb14", features="token").to("cuda")
        references = references_from_diffusion(["cat", "sofa"], pipeline, sam, dinov2,
                                               folder="pictures")

    For each picture of a class:

    1. Stable Diffusion draws it from a prompt. Meanwhile the cross-attention of the class's word is
       collected (`lpprop.backbones.cross_attention`), and averaged over heads, layers and steps.
    2. The map, resized to the picture, is binarised: M = map > t.
    3. `lpprop.prompt_points` spreads points over M, far from its edge and from each other.
    4. SAM segments what is at each point, and masks are fused where
       |A and B| / min(|A|, |B|) > 0.9 (`lpprop.fuse_masks`).
    5. The fused mask of the largest |A and M| / |A or M| is the class's; the first of equals.
    6. The reference is the mean of the features at unit length of the backbone's patches, each
       weighted by the mask's share of it, and has unit length itself.

    RIM's supplement says: 50 pictures per class, 50 steps, prompt points by farthest-point sampling
    on the binarised map, and SAM's masks fused at 0.9. RIM's features are DINOv2's. Ours, since the
    supplement leaves it open: the prompt, the layers whose attention counts, Otsu's threshold, the
    number of points, step 5, and the weights of step 6. This function has not been run with trained
    weights of Stable Diffusion or SAM yet.

    The seed of a picture follows from `seed`, the class's name and the picture's number, so it
    depends neither on the other classes nor on how many pictures are drawn at once. Synonyms take
    turns, and then the prompts.

    A picture that the pipeline's safety checker blackens, or in which no mask is found, gives no
    reference; an `InputWarning` says how many there are.

    Args:
        classes: as `Segmenter` takes them: synonyms separated by ";", with or without "name =".
        pipeline: a `diffusers.StableDiffusionPipeline` on its device, as
            `lpprop.backbones.load_diffusion_pipeline` loads one.
        sam: a model with a method `masks_at(image, points)`, such as `lpprop.regions.SAM`.
        backbone: the model that gives the features; the same one must see the images to segment.
        images_per_class: number of pictures per class.
        steps: number of denoising steps.
        guidance: scale of the classifier-free guidance, >= 0; up to 1 there is none.
        prompts: sentences with one "{}", where the class's word stands.
        threshold: t as a share of the map's largest value, in (0, 1); Otsu's threshold if None.
        points: number of prompt points.
        seed: decides, with class and number, about each picture's noise.
        side: side of the square pictures in pixels; that for which the U-Net was trained if None.
        shorter_side: side at which the backbone sees the pictures, as `Segmenter` takes it; that of
            the pictures if None. It is rounded up to whole patches.
        folder: where pictures, masks, references and their records are kept. A run that was
            interrupted goes on there, and ends with the same references. More classes or pictures
            can be added; other settings are refused.
        max_bytes: bound on the activations of the pictures that are drawn at once, at least one.
            With another bound pictures may differ by rounding.
        progress: whether a bar is shown. None shows one on a terminal and in a notebook, and
            elsewhere a line per minute.

    Returns:
        One reference per usable picture. `made` has the settings, models, prompts and seeds.

    Raises:
        InputError: classes, prompts or options that cannot be used, a word that the prompt does not
            hold as a whole, a folder of other settings, pictures that are not finite, or a class
            without a usable picture.
    """
    check_feats(backbone)
    if not isinstance(sam, PointSegmenter):
        raise InputError.of(
            "sam",
            got=type(sam).__name__,
            expected="a model with a method masks_at(image, points)",
            fix="Use lpprop.regions.SAM or SAM2.",
        )
    parsed = parse_classes(classes)
    count = check_integer("images_per_class", images_per_class)
    steps, points = check_integer("steps", steps), check_integer("points", points)
    guidance = check_from_0("guidance", guidance)
    if threshold is not None:
        check_number("threshold", threshold, low=0, high=1, open_low=True, open_high=True)
    if shorter_side is not None:
        shorter_side = check_integer("shorter_side", shorter_side)
    seed = check_integer("seed", seed, low=0)
    templates = check_templates(prompts, "prompts")
    artist = Artist(pipeline, steps=steps, guidance=guidance, side=side, max_bytes=max_bytes)
    planned = [
        plan_pictures(name, [parsed.prompts[i] for i in group], templates, seed=seed, count=count)
        for name, group in zip(parsed.class_names, parsed.groups, strict=True)
    ]
    for orders in planned:
        artist.find_words(orders)  # refuses all that it must before any work
    settings = {
        "seed": seed, "threshold": threshold, "points": points, "shorter side": shorter_side,
        "pipeline": artist.describe(), "sam": _describe(sam),
        "backbone": describe_backbone(backbone),
    }  # fmt: skip
    store = None if folder is None else PictureStore(Path(folder), settings)
    judge = partial(_judge, sam, backbone, threshold, points, shorter_side)
    made: list[list[Picture]] = []
    with Progress(count * len(planned), progress, "picture", logged=True) as bar:
        for orders in planned:
            made.append([])
            # The batches are the same in each run, since rounding may depend on them.
            for start in range(0, count, artist.at_once):
                batch = orders[start : start + artist.at_once]
                for picture in _make(batch, store, artist, judge):
                    made[-1].append(picture)
                    bar.update()
    return _collect(parsed.class_names, made, {"classes": list(classes), **settings})


def _make(
    batch: Sequence[Order],
    store: PictureStore | None,
    artist: Artist,
    judge: Callable[[Order, Drawn], tuple[Picture, Bool[Tensor, "H W"] | None]],
) -> Iterator[Picture]:
    """Yield the pictures of a batch; where one of them is missing, all are drawn again."""
    found = [
        None if store is None else store.load(order.name, order.number, order.record)
        for order in batch
    ]
    if all(picture is not None for picture in found):
        yield from (picture for picture in found if picture is not None)
        return
    for order, known, drawn in zip(batch, found, artist.draw(batch), strict=True):
        if known is not None:
            yield known
            continue
        made, mask = judge(order, drawn)
        if store is not None:
            store.save(order.name, order.number, made, drawn.pixels, mask)
        yield made


def _judge(
    sam: PointSegmenter,
    backbone: Backbone,
    threshold: float | None,
    points: int,
    shorter_side: int | None,
    order: Order,
    drawn: Drawn,
) -> tuple[Picture, Bool[Tensor, "H W"] | None]:
    """Find the class in a picture, and make the reference of it."""
    if drawn.blackened:
        return Picture(order.record | {"unused": "blackened by the safety checker"}, None), None
    attention = drawn.attention
    limit = otsu_threshold(attention) if threshold is None else threshold * float(attention.max())
    foreground = attention > limit
    if not bool(foreground.any()):
        return Picture(order.record | {"unused": "the attention is constant"}, None), None
    image = drawn.pixels[None].float() / 255
    at = prompt_points(foreground, min(points, int(foreground.sum())))
    found = _best_mask(sam, image, at, foreground)
    record = order.record | {"points": at.tolist()}
    if found is None:
        return Picture(record | {"unused": "no mask meets the attention"}, None), None
    mask, overlap = found
    size = seen_size((image.shape[-2], image.shape[-1]), shorter_side, 2**31)
    seen = resize_image(image.to(backbone.device), backbone.span(size))
    feats = backbone(seen).feats
    assert feats is not None
    # Class 0 is the mask and class 1 the rest, so that a patch counts with the mask's share of it.
    sums, _ = class_means(feats, (~mask)[None].long().to(feats.device), 2, 255)
    vector = F.normalize(sums[0, 0], dim=0).cpu()
    return Picture(record | {"overlap": round(overlap, 4)}, vector), mask


def _best_mask(
    sam: PointSegmenter,
    image: Float[Tensor, "1 3 H W"],
    points: Int[Tensor, "n 2"],
    foreground: Bool[Tensor, "H W"],
) -> tuple[Bool[Tensor, "H W"], float] | None:
    """Return the fused mask that overlaps the most with the foreground, and by how much."""
    device = getattr(sam, "device", image.device)
    masks, _ = sam.masks_at(image.to(device), points.to(device))
    fused = fuse_masks(masks.flatten(0, 1).cpu(), threshold=_FUSED_ABOVE)
    if not len(fused):
        return None
    both = (fused & foreground).flatten(1).sum(1)
    overlaps = both / (fused | foreground).flatten(1).sum(1)
    best = int(overlaps.argmax())
    return (fused[best], float(overlaps[best])) if overlaps[best] > 0 else None


def _collect(
    names: Sequence[str], made: Sequence[Sequence[Picture]], settings: dict[str, Any]
) -> References:
    """Put the vectors together; refuse a class without any, and warn of pictures without one."""
    reasons = [
        picture.record["unused"] for own in made for picture in own if picture.reference is None
    ]
    vectors, drawn = [], {}
    for name, own in zip(names, made, strict=True):
        used = [picture for picture in own if picture.reference is not None]
        if not used:
            raise InputError.of(
                "classes",
                got=f"{len(own)} pictures of {name!r}, none of which gives a reference "
                f"({own[0].record['unused']})",
                expected="at least one",
                fix="Describe the class in other words, or draw more pictures.",
            )
        vectors.append(torch.stack([cast(Tensor, picture.reference) for picture in used]))
        drawn[name] = [[each.record["prompt"], each.record["seed"]] for each in used]
    if reasons:
        listed = ", ".join(f"{reasons.count(reason)}: {reason}" for reason in sorted(set(reasons)))
        warn(
            "pictures without a reference",
            f"classes: got {len(reasons)} pictures of {sum(map(len, made))} that give no reference "
            f"({listed}). Look at them in the folder; other words or prompts may help.",
        )
    about = {"how": "pictures by Stable Diffusion", **settings, "prompts and seeds": drawn}
    return References(list(names), vectors, about)


def _describe(model: object) -> dict[str, Any]:
    weights = hash_weights(model) if isinstance(model, nn.Module) else None
    return {
        "class": type(model).__name__,
        "commit": getattr(model, "commit", None),
        "weights": weights,
    }
