"""Masks, superpixels, and what SAM's tools return."""

import torch

import lpprop
from error_tables.samples import IMAGE, spoilt
from lpprop.regions import components, felzenszwalb, from_sam, slic

fuse = lpprop.fuse_masks
points = lpprop.prompt_points

MASKS = torch.rand(3, 4, 5) > 0.5
LABELS = torch.zeros(2, 4, 5).long()
DOT = spoilt(torch.zeros(4, 5).bool(), True, 1, 2)
WRITE_IT = (
    "expected a mask in COCO's run-length encoding, of H x W pixels in all. Write it with "
    "pycocotools.mask.encode, or as SAM's tools do."
)
PASS_IT = "Pass what SAM's mask generator or transformers' mask-generation pipeline returned."

# fmt: off
TABLE = {
    # fuse_masks
    "fuse soft masks": (lambda: fuse(MASKS.float()), "masks: got dtype torch.float32"),
    "fuse a batch": (lambda: fuse(MASKS[None]), "masks: got shape (1, 3, 4, 5)"),
    "fuse without pixels": (lambda: fuse(MASKS[..., :0]), "masks: got shape (3, 4, 0)"),
    "fuse nothing without pixels": (lambda: fuse(MASKS[:0, :0]), "masks: got shape (1, 0, 5)"),
    "fuse arrays": (lambda: fuse(MASKS.numpy()), "masks: got ndarray"),
    "fuse threshold above 1": (lambda: fuse(MASKS, threshold=90), "threshold: got 90"),
    # prompt_points
    "points of soft mask": (lambda: points(MASKS[0].float(), 1), "mask: got dtype torch.float32"),
    "points of masks": (lambda: points(MASKS, 1), "mask: got shape (3, 4, 5)"),
    "points beyond the mask": (lambda: points(DOT, 2),
        "mask: got a mask of 1 pixels, expected at least n = 2, one per point. "
        "Ask for fewer points, or leave the mask out."),
    "points of nothing": (lambda: points(DOT & False, 1), "mask: got a mask of 0 pixels"),
    "no points": (lambda: points(DOT, 0), "n: got 0"),
    # components
    "components of scores": (lambda: components(LABELS.float()), "labels: got dtype torch.float32"),
    "components of four axes": (lambda: components(LABELS[None]),
        "labels: got shape (1, 2, 4, 5)"),
    "components area": (lambda: components(LABELS, min_area=-1), "min_area: got -1"),
    # superpixels
    "slic of 255": (lambda: slic(255 * IMAGE), "image: got values from"),
    "slic without batch": (lambda: slic(IMAGE[0]), "image: got shape (3, 64, 80)"),
    "slic of no segments": (lambda: slic(IMAGE, n_segments=0), "n_segments: got 0"),
    "slic compactness": (lambda: slic(IMAGE, compactness=0), "compactness: got 0"),
    "felzenszwalb grey": (lambda: felzenszwalb(IMAGE[:, :1]), "image: got shape (2, 1, 64, 80)"),
    "felzenszwalb scale": (lambda: felzenszwalb(IMAGE, scale=0), "scale: got 0"),
    "felzenszwalb sigma": (lambda: felzenszwalb(IMAGE, sigma=-1), "sigma: got -1"),
    "felzenszwalb min_size": (lambda: felzenszwalb(IMAGE, min_size=0.5), "min_size: got 0.5"),
    # from_sam
    "no masks of SAM": (lambda: from_sam([]), "masks: got no mask"),
    "output of another pipeline": (lambda: from_sam({"scores": 1}),
        "masks: got a dict with ['scores'], expected a list of masks, or a dict with one. "
        + PASS_IT),
    "logits for masks": (lambda: from_sam([MASKS[0].float() - 0.5]),
        "masks[0]: got shape (4, 5) of torch.float32"),
    "run lengths of another size": (lambda: from_sam([{"size": [2, 3], "counts": [5]}]),
        f"masks[0]: got counts with a sum of 5 for 2 x 3 pixels, {WRITE_IT}"),
}
# fmt: on
