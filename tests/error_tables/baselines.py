"""PAMR, the guided filter, both random fields and pooling, and the presets that hold them."""

import torch

import lpprop
from error_tables.samples import ATTENTION, FEATS, FULL, IMAGE, LOGITS, spoilt

pamr = lpprop.pamr
guided = lpprop.guided_filter
crf = lpprop.dense_crf
local = lpprop.local_crf
pool = lpprop.attention_pool
similar = lpprop.correlation_pool

HALVES = torch.full((2, 2, 64, 80), 0.5)

# fmt: off
TABLE = {
    # pamr
    "pamr of patches": (lambda: pamr(LOGITS, IMAGE), "image: got shape (2, 3, 64, 80)"),
    "pamr image of 255": (lambda: pamr(FULL, spoilt(255 * IMAGE, 255, 0, 0, 0, 0)),
        "image: got values from"),
    "pamr iterations negative": (lambda: pamr(FULL, IMAGE, iterations=-1), "iterations: got -1"),
    "pamr dilations a number": (lambda: pamr(FULL, IMAGE, dilations=8), "dilations: got 8"),
    "pamr dilations of 0": (lambda: lpprop.PAMR(dilations=(8, 0)), "dilations[1]: got 0"),
    # guided_filter
    "guided of patches": (lambda: guided(LOGITS, IMAGE), "image: got shape (2, 3, 64, 80)"),
    "guided radius": (lambda: lpprop.GuidedFilter(radius=1.5), "radius: got 1.5"),
    "guided eps 0": (lambda: guided(FULL, IMAGE, eps=0), "eps: got 0"),
    # dense_crf
    "crf of patches": (lambda: crf(LOGITS, IMAGE), "image: got shape (2, 3, 64, 80)"),
    "crf scale 0": (lambda: crf(FULL, IMAGE, scale=0), "scale: got 0"),
    "crf scale a word": (lambda: crf(FULL, IMAGE, scale="soft"), "scale: got 'soft'"),
    "crf weight negative": (lambda: crf(FULL, IMAGE, w1=-1), "w1: got -1"),
    "crf weight beyond float32": (lambda: crf(FULL, IMAGE, w1=1e300), "w1: got 1e+300"),
    "crf weight beyond float64": (lambda: crf(FULL, IMAGE, w2=10**400), "w2: got 1000000000"),
    "crf reach 0": (lambda: crf(FULL, IMAGE, theta_beta=0), "theta_beta: got 0"),
    "crf reach in colour": (lambda: crf(FULL, IMAGE, theta_beta=0.01),
        "theta_beta: got 0.01 for an image of 64 x 80 pixels"),
    "crf reach in pixels": (lambda: crf(FULL, IMAGE, theta_gamma=0.01),
        "theta_gamma: got 0.01 for an image of 64 x 80 pixels"),
    "crf scores as probabilities": (lambda: crf(spoilt(HALVES, -1, 0, 0, 0, 0), IMAGE, scale=None),
        "x: got values down to -1 and sums over the classes up to 1.5 from 1"),
    "crf gradient of scores": (lambda: crf(FULL.clone().requires_grad_(), IMAGE),
        "x: got a tensor that requires a gradient"),
    "crf gradient of image": (lambda: crf(FULL, IMAGE.clone().requires_grad_()),
        "image: got a tensor that requires a gradient"),
    # local_crf
    "local crf of patches": (lambda: local(LOGITS, IMAGE), "image: got shape (2, 3, 64, 80)"),
    "local crf scale 0": (lambda: local(FULL, IMAGE, scale=0), "scale: got 0"),
    "local crf r 0": (lambda: local(FULL, IMAGE, r=0), "r: got 0"),
    "local crf weight negative": (lambda: lpprop.LocalCRF(w2=-1), "w2: got -1"),
    "local crf reach 0": (lambda: local(FULL, IMAGE, theta_gamma=0), "theta_gamma: got 0"),
    "local crf backend": (lambda: local(FULL, IMAGE, backend="cuda"), "backend: got 'cuda'"),
    "local crf scores as probabilities": (
        lambda: local(spoilt(HALVES, -1, 0, 0, 0, 0), IMAGE, scale=None),
        "x: got values down to -1 and sums over the classes up to 1.5 from 1"),
    # attention_pool and correlation_pool
    "pool with attention of other patches": (lambda: pool(LOGITS, ATTENTION[:, :6, :6]),
        "attention: got shape (2, 6, 6)"),
    "pool with negative attention": (lambda: pool(LOGITS, spoilt(ATTENTION, -0.5, 1, 2, 3)),
        "attention: got values down to -0.5"),
    "pool steps negative": (lambda: pool(LOGITS, ATTENTION, steps=-1), "steps: got -1"),
    "similar of another grid": (lambda: similar(LOGITS[..., :4], FEATS),
        "feats: got shape (2, 8, 4, 5)"),
    "similar threshold": (lambda: similar(LOGITS, FEATS, threshold=1.5), "threshold: got 1.5"),
    # presets
    "bilinear option": (lambda: lpprop.presets.bilinear(radius=2),
        "radius: got an option that bilinear does not have"),
    "joint_bilateral option mistyped": (lambda: lpprop.presets.joint_bilateral(radios=2),
        "radios: got an option that joint_bilateral does not have"),
    "guided_filter option mistyped": (lambda: lpprop.presets.guided_filter(epsilon=2),
        "epsilon: got an option that guided_filter does not have"),
    "pamr preset option of another": (lambda: lpprop.presets.pamr(tau=2),
        "tau: got an option that pamr does not have"),
    "method close to one": (lambda: lpprop.presets.by_name("crf"), "method: got 'crf'"),
    "baseline without image": (lambda: lpprop.presets.guided_filter()(LOGITS), "image: got None"),
}
# fmt: on
