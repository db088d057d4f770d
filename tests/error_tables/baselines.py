"""PAMR, the guided filter and DenseCRF, and the presets that hold them."""

import torch

import lpprop
from error_tables.samples import FULL, IMAGE, LOGITS, METHODS, spoilt

pamr = lpprop.pamr
guided = lpprop.guided_filter
crf = lpprop.dense_crf

HALVES = torch.full((2, 2, 64, 80), 0.5)

# fmt: off
TABLE = {
    # pamr
    "pamr of patches": (lambda: pamr(LOGITS, IMAGE),
        "image: got shape (2, 3, 64, 80), expected (B=2, 3, H=4, W=5), since x has H=4. Nothing "
        "is broadcast: give every tensor its full size."),
    "pamr image of 255": (lambda: pamr(FULL, spoilt(255 * IMAGE, 255, 0, 0, 0, 0)),
        f"image: got values from {float((255 * IMAGE).min()):.4g} to 255, expected RGB in [0, 1]. "
        "It looks like 0-255: divide by 255, or pass uint8 to lpprop.refine."),
    "pamr iterations negative": (lambda: pamr(FULL, IMAGE, iterations=-1),
        "iterations: got -1, expected an integer >= 0. Change iterations."),
    "pamr dilations a number": (lambda: pamr(FULL, IMAGE, dilations=8),
        "dilations: got 8, expected one integer or more. Pass dilations=(8, 16)."),
    "pamr dilations of 0": (lambda: lpprop.PAMR(dilations=(8, 0)),
        "dilations[1]: got 0, expected an integer >= 1. Change dilations[1]."),
    # guided_filter
    "guided of patches": (lambda: guided(LOGITS, IMAGE),
        "image: got shape (2, 3, 64, 80), expected (B=2, 3, H=4, W=5), since x has H=4. Nothing "
        "is broadcast: give every tensor its full size."),
    "guided radius": (lambda: lpprop.GuidedFilter(radius=1.5),
        "radius: got 1.5, expected an integer >= 0. Change radius."),
    "guided eps 0": (lambda: guided(FULL, IMAGE, eps=0),
        "eps: got 0, expected a number in [1e-09, 1e+09]. Change eps."),
    # dense_crf
    "crf of patches": (lambda: crf(LOGITS, IMAGE),
        "image: got shape (2, 3, 64, 80), expected (B=2, 3, H=4, W=5), since x has H=4. Nothing "
        "is broadcast: give every tensor its full size."),
    "crf scale 0": (lambda: crf(FULL, IMAGE, scale=0),
        "scale: got 0, expected 'auto', None or a number > 0. Change scale."),
    "crf scale a word": (lambda: crf(FULL, IMAGE, scale="soft"),
        "scale: got 'soft', expected 'auto', None or a number > 0. Change scale."),
    "crf weight negative": (lambda: crf(FULL, IMAGE, w1=-1),
        "w1: got -1, expected a number in [0, inf). Change w1."),
    "crf reach 0": (lambda: crf(FULL, IMAGE, theta_beta=0),
        "theta_beta: got 0, expected a number in (0, inf). Change theta_beta."),
    "crf reach in colour": (lambda: crf(FULL, IMAGE, theta_beta=0.01),
        "theta_beta: got 0.01 for an image of 64 x 80 pixels, expected at least 0.25. Raise "
        "theta_beta, or make the image smaller."),
    "crf reach in pixels": (lambda: crf(FULL, IMAGE, theta_gamma=0.01),
        "theta_gamma: got 0.01 for an image of 64 x 80 pixels, expected at least 0.024. Raise "
        "theta_gamma, or make the image smaller."),
    "crf scores as probabilities": (lambda: crf(spoilt(HALVES, -1, 0, 0, 0, 0), IMAGE, scale=None),
        "x: got values down to -1 and sums over the classes up to 1.5 from 1, expected "
        "probabilities, since scale is None. Pass scale='auto', or a number, for scores."),
    "crf gradient of scores": (lambda: crf(FULL.clone().requires_grad_(), IMAGE),
        "x: got a tensor that requires a gradient, expected one that does not: DenseCRF has none. "
        "Pass x.detach(), or call it under torch.no_grad()."),
    "crf gradient of image": (lambda: crf(FULL, IMAGE.clone().requires_grad_()),
        "image: got a tensor that requires a gradient, expected one that does not: DenseCRF has "
        "none. Pass image.detach(), or call it under torch.no_grad()."),
    # presets
    "bilinear option": (lambda: lpprop.presets.bilinear(radius=2),
        "radius: got an option that bilinear does not have, expected no option. Remove radius."),
    "joint_bilateral option mistyped": (lambda: lpprop.presets.joint_bilateral(radios=2),
        "radios: got an option that joint_bilateral does not have, expected one of sigma_space, "
        "sigma_range, radius, size, backend. Did you mean radius?"),
    "guided_filter option mistyped": (lambda: lpprop.presets.guided_filter(epsilon=2),
        "epsilon: got an option that guided_filter does not have, expected one of radius, eps. Did "
        "you mean eps?"),
    "pamr preset option of another": (lambda: lpprop.presets.pamr(tau=2),
        "tau: got an option that pamr does not have, expected one of iterations, dilations. Remove "
        "tau."),
    "method close to one": (lambda: lpprop.presets.by_name("crf"),
        "method: got 'crf', expected one of " + METHODS
        + ", a module or a callable. Did you mean 'dense_crf'?"),
    "baseline without image": (lambda: lpprop.presets.guided_filter()(LOGITS),
        "image: got None, expected a tensor. This method needs it: pass image=."),
}
# fmt: on
