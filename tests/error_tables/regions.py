"""Regions: maps, masks, their scores, proposers, and the region vote."""

import numpy as np
import torch

import lpprop
from error_tables.samples import CROPS, FULL, IMAGE, LOGITS, WIDE, WINDOWS, spoilt

refine = lpprop.refine
vote = lpprop.region_vote

MAPS = torch.zeros(2, 64, 80, dtype=torch.long)
MASKS = [torch.ones(2, 64, 80) > 0, torch.ones(3, 64, 80) > 0]
SOFT = torch.full((1, 64, 80), 0.5)
WEIGHTS = [torch.ones(2), torch.ones(3)]


def voted(regions, **rest):
    return refine(LOGITS, image=IMAGE, regions=regions, method="region_vote", **rest)


def no_regions(image):
    return image[0, 0]


def of_another_size(image, scores):
    return [scores[0] > 0]


# fmt: off
TABLE = {
    # region_vote
    "vote without regions": (lambda: vote(FULL, None), "regions: got None"),
    "vote of no tensor": (lambda: vote(FULL, "slic"), "regions: got str"),
    "vote of float maps": (lambda: vote(FULL, MAPS.float()), "regions: got dtype torch.float32"),
    "vote of masks for one image": (lambda: vote(FULL, MASKS[0]), "regions: got dtype torch.bool"),
    "vote of maps of batch 1": (lambda: vote(FULL, MAPS[:1]), "regions: got shape (1, 64, 80)"),
    "vote of maps of two axes": (lambda: vote(FULL, MAPS[0]), "regions: got shape (64, 80)"),
    "vote of maps without pixels": (lambda: vote(FULL, MAPS[..., :0]),
        "regions: got shape (2, 64, 0)"),
    "vote of masks of another batch": (lambda: vote(FULL, MASKS[:1]),
        "regions: got masks of 1 images, expected those of 2"),
    "vote of integer masks": (lambda: vote(FULL, [MASKS[0], MASKS[1].long()]),
        "regions[1]: got dtype torch.int64"),
    "vote of masks of two axes": (lambda: vote(FULL, [MASKS[0], MASKS[1][0]]),
        "regions[1]: got shape (64, 80)"),
    "vote of masks without pixels": (lambda: vote(FULL, [MASKS[0][:0, :0], MASKS[1]]),
        "regions[0]: got shape (1, 0, 80)"),
    "vote of masks as logits": (lambda: vote(FULL, [spoilt(SOFT, -9, 0, 0, 0), MASKS[1]]),
        "regions[0]: got values from -9 to 0.5"),
    "vote of masks with NaN": (lambda: vote(FULL, [spoilt(SOFT, torch.nan, 0, 0, 0), MASKS[1]]),
        "regions[0]: got 1 NaN or infinite of 5120 values"),
    "vote of masks that want a gradient": (
        lambda: vote(FULL, [SOFT.clone().requires_grad_(), MASKS[1]]),
        "regions[0]: got a tensor that requires a gradient"),
    "vote of maps that lie on their side": (lambda: vote(FULL, MAPS.mT),
        "regions: got 80 x 64 pixels, expected the aspect ratio of the image's 64 x 80"),
    "vote of NaN": (lambda: vote(spoilt(FULL, torch.nan, 0, 0, 0, 0), MAPS),
        "logits: got 1 NaN"),
    "vote by something else": (lambda: vote(FULL, MAPS, by="median"), "by: got 'median'"),
    "vote of strength 2": (lambda: lpprop.RegionVote(strength=2), "strength: got 2"),
    "vote of purity below 0": (lambda: vote(FULL, MAPS, purity=-0.5), "purity: got -0.5"),
    "vote of overlap None": (lambda: vote(FULL, MAPS, overlap=None), "overlap: got None"),
    "vote option unknown": (lambda: lpprop.presets.region_vote(tau=1),
        "tau: got an option that region_vote does not have"),
    # region_scores
    "region scores of maps": (lambda: vote(FULL, MAPS, region_scores=WEIGHTS),
        "region_scores: got scores of regions, beside no masks"),
    "region scores without regions": (
        lambda: refine(LOGITS, image=IMAGE, region_scores=WEIGHTS, method="bilinear"),
        "region_scores: got scores of regions, beside no masks"),
    "region scores of one image": (lambda: vote(FULL, MASKS, region_scores=WEIGHTS[0]),
        "region_scores: got those of 1 images"),
    "region scores a number": (lambda: vote(FULL, MASKS, region_scores=0.5),
        "region_scores: got float"),
    "region scores of other masks": (lambda: vote(FULL, MASKS, region_scores=WEIGHTS[::-1]),
        "region_scores[0]: got shape (3,), expected (2,)"),
    "region scores of no tensor": (lambda: vote(FULL, MASKS, region_scores=[[1, 1], [1, 1, 1]]),
        "region_scores[0]: got list"),
    "region scores negative": (
        lambda: vote(FULL, MASKS, region_scores=[-WEIGHTS[0], WEIGHTS[1]]),
        "region_scores[0]: got values down to -1"),
    "region scores NaN": (
        lambda: vote(FULL, MASKS, region_scores=[WEIGHTS[0], torch.nan * WEIGHTS[1]]),
        "region_scores[1]: got 3 NaN"),
    # as users pass them
    "regions a list of lists": (lambda: voted([[1, 2]]), "regions[0]: got list"),
    "regions as SAM lists them": (lambda: voted([{"segmentation": MASKS[0][0]}]),
        "regions[0]: got a dictionary"),
    "regions as floats": (lambda: voted(MAPS[0].float()),
        "regions: got shape (64, 80) and dtype torch.float32"),
    "regions of four axes": (lambda: voted(MAPS[None]),
        "regions: got shape (1, 2, 64, 80) and dtype torch.int64"),
    "regions of one mask each": (lambda: voted([MASKS[0][0], MASKS[1][0]]),
        "regions[0]: got shape (64, 80) and dtype torch.bool"),
    "regions of two sizes": (lambda: voted([MAPS[0], MAPS[1, 1:]]),
        "regions[1]: got shape (63, 80)"),
    "labels beyond int64": (
        lambda: lpprop.regions.components(torch.full((2, 2), 2**63, dtype=torch.uint64)),
        "labels: got numbers from 2**63"),
    "regions beyond int64": (lambda: voted(np.full((2, 64, 80), 2**63, np.uint64)),
        "regions: got numbers from 2**63"),
    "regions of one image": (lambda: voted(MAPS[0]), "regions: got shape (1, 64, 80)"),
    "regions that lie on their side": (lambda: voted([masks.mT[:, ::2, ::2] for masks in MASKS]),
        "regions[0]: got 40 x 32 pixels, expected the aspect ratio of the image's 64 x 80"),
    "regions of windows that lie on their side": (
        lambda: refine(CROPS[0], windows=WINDOWS, method="region_vote",
        regions=torch.zeros(112, 80).long()),
        "regions: got 112 x 80 pixels, expected the aspect ratio of the image's 80 x 112"),
    "regions of each window": (
        lambda: refine(CROPS[0], image=WIDE, windows=WINDOWS, method="region_vote",
        regions=torch.zeros(6, 80, 112).long()),
        "regions: got shape (6, 80, 112)"),
    "regions that nobody takes": (lambda: refine(LOGITS, image=IMAGE, regions=MAPS, method="pamr"),
        "regions: got an input that nobody takes"),
    "regions that are missing": (lambda: refine(LOGITS, image=IMAGE, method="region_vote"),
        "regions: got None"),
    # proposers
    "proposer unknown": (lambda: voted("slick"), "regions: got 'slick'"),
    "proposer a file": (lambda: voted("masks.npy"), "regions: got 'masks.npy'"),
    "proposer without parameters": (lambda: voted(lambda: MAPS), "regions: got <lambda>"),
    "proposer of three": (lambda: voted(lambda image, scores, more: MAPS), "regions: got <lambda>"),
    "proposer without image": (
        lambda: refine(LOGITS, regions=no_regions, method="region_vote", size=(64, 80)),
        "image: got None, beside the proposer no_regions"),
    "proposer of a step without image": (
        lambda: lpprop.RegionVote()(FULL, regions=no_regions),
        "image: got None, beside the proposer no_regions"),
    "proposer of an image": (lambda: voted(no_regions),
        "regions of the proposer no_regions: got shape (64, 80) and"),
    "proposer of one image": (lambda: voted(of_another_size),
        "regions of the proposer of_another_size: got masks of 1 images"),
}
# fmt: on

# Known only when a step is reached.
AFTERWARDS = {"proposer of one image"}
