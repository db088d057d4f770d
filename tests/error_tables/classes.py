"""None of these, and choosing classes."""

import math

import torch

import lpprop
from error_tables.samples import FEATS, IMAGE, LOGITS, spoilt
from lpprop import add_background, refine, select_classes

SHARES = torch.full((2, 3, 4, 5), 0.5)
MAP = torch.zeros(2, 4, 5)
WIDE_MAP = torch.zeros(2, 64, 80)

# fmt: off
TABLE = {
    "background of scores below 0": (lambda: add_background(SHARES - 1, 0.4),
        "scores: got values from -0.5 to -0.5, expected a probability per class, in [0, 1]"),
    "background of scores above 1": (lambda: add_background(SHARES + 1, 0.4),
        "scores: got values from 1.5 to 1.5"),
    "background threshold above 1": (lambda: add_background(SHARES, 1.1),
        "threshold: got 1.1, expected a number in [0, 1]"),
    "background of three axes": (lambda: add_background(SHARES[0], 0.4),
        "scores: got shape (3, 4, 5)"),
    "background of NaN": (lambda: add_background(spoilt(SHARES, math.nan, 0, 0, 0, 0), 0.4),
        "scores: got 1 NaN or infinite"),
    "background of no class": (lambda: add_background(SHARES - math.inf, 0.4),
        "scores: got -inf in every class"),
    "saliency of another size": (lambda: add_background(SHARES, 0.4, saliency=MAP[:, 1:]),
        "saliency: got shape (2, 3, 5)"),
    "saliency of levels": (lambda: add_background(SHARES, 0.4, saliency=MAP + 255),
        "saliency: got values from 255 to 255, expected the probability of the foreground"),
    "saliency of integers": (lambda: add_background(SHARES, 0.4, saliency=MAP.long()),
        "saliency: got dtype torch.int64"),
    "refine a background out of range": (
        lambda: refine(LOGITS, FEATS, IMAGE, background=-0.1),
        "background: got -0.1, expected a number in [0, 1]"),
    "refine a background in words": (lambda: refine(LOGITS, FEATS, IMAGE, background="wall"),
        "background: got 'wall'"),
    "refine a background beside one class": (
        lambda: refine(LOGITS[:, :1], FEATS, IMAGE, background=0.4),
        "background: got 0.4 beside a single class, expected two"),
    "refine a background beside one class that is left": (
        lambda: refine(spoilt(spoilt(LOGITS, -math.inf, slice(None), 0), -math.inf,
                              slice(None), 1), FEATS, IMAGE, background=0.4),
        "background: got 0.4 beside a single class, since all others are -inf"),
    "refine saliency without a background": (
        lambda: refine(LOGITS, FEATS, IMAGE, saliency=WIDE_MAP),
        "saliency: got a map, and no background"),
    "refine saliency of another size": (
        lambda: refine(LOGITS, FEATS, IMAGE, saliency=MAP, background=0.4),
        "saliency: got shape (2, 4, 5)"),
    "refine saliency of levels": (
        lambda: refine(LOGITS, FEATS, IMAGE, saliency=WIDE_MAP + 255, background=0.4),
        "saliency: got values from 255 to 255"),
    "compare a class with the background's name": (
        lambda: lpprop.compare(LOGITS[:1], None, IMAGE[:1], methods=["bilinear"], background=0.4,
                               class_names=["cat", "sofa", "none of these"]),
        "class_names: got 'none of these' among them"),
    "select by nothing": (lambda: select_classes(LOGITS), "top: got neither it nor threshold"),
    "select by both": (lambda: select_classes(LOGITS, top=2, threshold=0.1),
        "top: got 2 beside threshold"),
    "select none": (lambda: select_classes(LOGITS, top=0), "top: got 0, expected an integer >= 1"),
    "select by a threshold in words": (lambda: select_classes(LOGITS, threshold="low"),
        "threshold: got 'low'"),
    "select by no patch": (lambda: select_classes(LOGITS, top=2, patches=0),
        "patches: got 0, expected an integer >= 1"),
    "select by more than all patches": (lambda: select_classes(LOGITS, top=2, patches=1.5),
        "patches: got 1.5, expected a number in (0, 1]"),
    "select at no scale": (lambda: select_classes(LOGITS, top=2, logit_scale=0),
        "logit_scale: got 0"),
    "select of three axes": (lambda: select_classes(LOGITS[0], top=2),
        "logits: got shape (3, 4, 5)"),
    "select by global scores of other classes": (
        lambda: select_classes(LOGITS, top=2, global_scores=torch.zeros(2, 4)),
        "global_scores: got shape (2, 4)"),
    "select by global scores of NaN": (
        lambda: select_classes(LOGITS, top=2, global_scores=torch.zeros(2, 3) / 0),
        "global_scores: got 6 NaN or infinite"),
}
# fmt: on
