"""Class distributions, their maps, attention, joint bilateral upsampling, and their chains."""

import math

import torch

import lpprop
from error_tables.samples import (
    ATTENTION,
    AXES,
    BROADCAST,
    CROPS,
    EMPTY,
    FEATS,
    FINITE,
    FULL,
    IMAGE,
    LOGITS,
    STEP,
    WIDE,
    WINDOWS,
    spoilt,
)
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn

refine = lpprop.refine
distribution = lpprop.class_distribution
kl = lpprop.kl_discrepancy
path = lpprop.optimal_path
velocity = lpprop.max_velocity
upsample = lpprop.joint_bilateral_upsample
aggregate = lpprop.aggregate_attention
sharpen = lpprop.sharpen_attention
from_features = lpprop.attention_from_features

# Three classes over 20 patches, all alike.
EVEN = torch.full((2, 3, 20), 1 / 20)
HEADS = ATTENTION[:, None].expand(2, 4, 20, 20)
# More patches than there is memory for, where that is 1 MiB.
MANY, WIDER = torch.full((1, 2, 400), 1 / 400), torch.full((1, 400, 400), 1 / 400)
NO_ROW = ATTENTION.index_fill(1, torch.tensor([7]), 0.0)
NO_COLUMN = ATTENTION.index_fill(2, torch.tensor([7]), 0.0)
NEGATIVE = spoilt(ATTENTION, -0.5, 1, 2, 3)

MAKE_IT = "Make it with lpprop.class_distribution(logits)."
SOFTMAX = "expected no negative value. Take it after the softmax."
SUMS = "expected rows that sum to 1, or rows of zeros for rejected classes. " + MAKE_IT
ADD = "Add a small number to every entry, such as 1e-6, if that is meant."
ROW = f"expected a positive entry in every row. {ADD}"
COLUMN = f"expected a positive entry in every column. {ADD}"
ONE_OF_THEM = "This method needs one of them: pass attention= or feats=."
COARSER = (
    "expected at most the 0.000977 GiB that are free on cpu. Use a coarser grid "
    "(lpprop.bilinear_upsample also makes grids smaller, lpprop.aggregate_attention does so for "
    "attention), or fewer items at once."
)
RESAMPLE = (
    "Resample it with lpprop.aggregate_attention([attention], size=(4, 5), grids=[its own (h, w)])."
)
DISTRIBUTION = "nms, threshold, confidence, logit_scale, early_rejection"
UPSAMPLE = "sigma_space, sigma_range, radius, size"


# fmt: off
TABLE = {
    # class distributions
    "distribution of no logits": (lambda: distribution(None),
        "logits: got None, expected a tensor. This method needs it: pass logits=."),
    "distribution without batch": (lambda: distribution(LOGITS[0]),
        "logits: got shape (3, 4, 5), expected 4 axes (B, C, h, w). " + AXES),
    "distribution of no classes": (lambda: distribution(LOGITS[:, :0]),
        "logits: got shape (2, 0, 4, 5), " + EMPTY),
    "distribution of NaN": (lambda: distribution(spoilt(LOGITS, math.nan, 1, 0, 0, 0)),
        "logits: got 1 NaN or infinite of 120 values, the first at (1, 0, 0, 0), " + FINITE),
    "nms above 1": (lambda: distribution(LOGITS, nms=1.5),
        "nms: got 1.5, expected a number in [0, 1]. Change nms."),
    "nms NaN": (lambda: distribution(LOGITS, nms=math.nan),
        "nms: got nan, expected a number in [0, 1]. Change nms."),
    "threshold unknown": (lambda: distribution(LOGITS, threshold="max"),
        "threshold: got 'max', expected one of 'relative', 'absolute'. Change threshold."),
    "confidence unknown": (lambda: distribution(LOGITS, confidence=None),
        "confidence: got None, expected one of 'softmax', 'minmax'. Change confidence."),
    "logit_scale zero": (lambda: distribution(LOGITS, logit_scale=0.0),
        "logit_scale: got 0.0, expected a number in [1e-09, 1e+09]. Change logit_scale."),
    "early_rejection a number": (lambda: distribution(LOGITS, early_rejection=1),
        "early_rejection: got 1, expected True or False. Change early_rejection."),
    "distribution module option": (lambda: lpprop.ClassDistribution(nms=-0.1),
        "nms: got -0.1, expected a number in [0, 1]. Change nms."),
    "distribution module option unknown": (lambda: lpprop.ClassDistribution(nsm=0.5),
        "nsm: got an option that ClassDistribution does not have, expected one of "
        f"{DISTRIBUTION}. Did you mean nms?"),
    # the divergence
    "divergence on the grid": (lambda: kl(EVEN.unflatten(2, (4, 5))),
        "distribution: got shape (2, 3, 4, 5), expected 3 axes (B, C, N). " + AXES),
    "divergence of logits": (lambda: kl(2 * EVEN),
        "distribution: got a row that sums to 2, the first at (0, 0), " + SUMS),
    "divergence of one row that is none": (lambda: kl(spoilt(EVEN, 0.25, 1, 2, 0)),
        "distribution: got a row that sums to 1.2, the first at (1, 2), " + SUMS),
    "divergence of negative values": (lambda: kl(spoilt(EVEN, -0.5, 1, 2, 0)),
        "distribution: got values down to -0.5, expected no negative value. " + MAKE_IT),
    "divergence module option": (lambda: lpprop.KLDiscrepancy(base=2),
        "base: got an option that KLDiscrepancy does not have, expected no option. Remove base."),
    # the path
    "path without cost": (lambda: path(EVEN, None),
        "cost: got None, expected a tensor. This method needs it: pass cost=."),
    "path of other patches": (lambda: path(EVEN[..., :19], ATTENTION),
        "cost: got shape (2, 20, 20), expected (B=2, N=19, N=19), since distribution has N=19. "
        + BROADCAST),
    "path of cost of batch 1": (lambda: path(EVEN, ATTENTION[:1]),
        "cost: got shape (1, 20, 20), expected (B=2, N=20, N=20), since distribution has B=2. "
        + BROADCAST),
    "path of cost not square": (lambda: path(EVEN, ATTENTION[:, :, :19]),
        "cost: got shape (2, 20, 19), expected (B=2, N=20, N=20), since distribution has N=20. "
        + BROADCAST),
    "path of cost with heads": (lambda: path(EVEN, HEADS),
        "cost: got shape (2, 4, 20, 20), expected 3 axes (B, N, N). " + AXES),
    "path of NaN in cost": (lambda: path(EVEN, spoilt(ATTENTION, math.nan, 1, 2, 3)),
        "cost: got 1 NaN or infinite of 800 values, the first at (1, 2, 3), " + FINITE),
    "path of logits": (lambda: path(2 * EVEN, ATTENTION),
        "distribution: got a row that sums to 2, the first at (0, 0), " + SUMS),
    "path of negative values": (lambda: path(spoilt(EVEN, -0.5, 1, 2, 0), ATTENTION),
        "distribution: got values down to -0.5, expected no negative value. " + MAKE_IT),
    "epsilon zero": (lambda: path(EVEN, ATTENTION, epsilon=0),
        "epsilon: got 0, expected a number in [1e-09, 1e+09]. Change epsilon."),
    "iterations zero": (lambda: path(EVEN, ATTENTION, iterations=0),
        "iterations: got 0, expected an integer >= 1. Change iterations."),
    "norm unknown": (lambda: path(EVEN, ATTENTION, norm=None),
        "norm: got None, expected one of 'none', 'image', 'class', 'sum'. Change norm."),
    "complement a number": (lambda: path(EVEN, ATTENTION, complement=0),
        "complement: got 0, expected True or False. Change complement."),
    "paths that vanish in half": (lambda: path(EVEN.half(), torch.full((2, 20, 20), 1e-5)),
        "distribution: got torch.float16, in which paths up to 5e-07 vanish, expected a dtype "
        'that holds the paths. Pass a dtype of a wider range, or norm="image".'),
    "path too large for memory": (lambda: path(MANY, WIDER),
        "cost: got 400 patches, whose 400 x 400 matrices need 0.00238 GiB, " + COARSER),
    "path module option": (lambda: lpprop.OptimalPath(epsilon=math.inf),
        "epsilon: got inf, expected a number in [1e-09, 1e+09]. Change epsilon."),
    "path module without attention": (lambda: lpprop.OptimalPath()(EVEN),
        "attention: got None, expected a tensor. This method needs it: pass attention=."),
    # the velocity
    "velocity without attention": (lambda: velocity(EVEN, None),
        "attention: got None, expected a tensor. This method needs it: pass attention=."),
    "velocity on the grid": (lambda: velocity(EVEN.unflatten(2, (4, 5)), ATTENTION),
        "distribution: got shape (2, 3, 4, 5), expected 3 axes (B, C, N). " + AXES),
    "velocity of other patches": (lambda: velocity(EVEN, ATTENTION[:, :19, :19]),
        "attention: got shape (2, 19, 19), expected (B=2, N=20, N=20), since distribution has "
        "N=20. " + BROADCAST),
    "velocity of negative values": (lambda: velocity(spoilt(EVEN, -0.5, 1, 2, 0), ATTENTION),
        "distribution: got values down to -0.5, expected no negative value. " + MAKE_IT),
    "velocity of attention before the softmax": (lambda: velocity(EVEN, NEGATIVE),
        "attention: got values down to -0.5, " + SOFTMAX),
    "velocity of a row of zeros": (lambda: velocity(EVEN, NO_ROW),
        "attention: got zeros in 2 of 40 rows, the first at (0, 7), expected a positive entry "
        "in every row. Add a small number to every entry, such as 1e-6, if that is meant."),
    "velocity of a column of zeros": (lambda: velocity(EVEN, NO_COLUMN),
        "attention: got zeros in 2 of 40 columns, the first at (0, 7), expected a positive "
        "entry in every column. Add a small number to every entry, such as 1e-6, if that is "
        "meant."),
    "tau one": (lambda: velocity(EVEN, ATTENTION, tau=1),
        "tau: got 1, expected a number in [0, 1). Change tau."),
    "ipf_iterations zero": (lambda: velocity(EVEN, ATTENTION, ipf_iterations=0),
        "ipf_iterations: got 0, expected an integer >= 1. Change ipf_iterations."),
    "criterion unknown": (lambda: velocity(EVEN, ATTENTION, criterion="Eq. 12"),
        "criterion: got 'Eq. 12', expected one of 'arrival', 'step'. Change criterion."),
    "max_steps infinite": (lambda: velocity(EVEN, ATTENTION, max_steps=math.inf),
        "max_steps: got inf, expected an integer >= 1. Change max_steps."),
    "velocity too large for memory": (lambda: velocity(MANY, WIDER),
        "attention: got 400 patches, whose 400 x 400 matrices need 0.00238 GiB, expected at "
        "most the 0.000977 GiB that are free on cpu. Use a coarser grid "
        "(lpprop.bilinear_upsample also makes grids smaller, lpprop.aggregate_attention does "
        "so for attention), or fewer items at once."),
    "velocity module option": (lambda: lpprop.MaxVelocity(tau=-0.1),
        "tau: got -0.1, expected a number in [0, 1). Change tau."),
    "velocity module without attention": (lambda: lpprop.MaxVelocity()(EVEN),
        "attention: got None, expected a tensor. This method needs it: pass attention=."),
    # joint bilateral upsampling
    "joint upsampling without image": (lambda: upsample(LOGITS, None),
        "image: got None, expected a tensor. This method needs it: pass image=."),
    "joint upsampling of image of batch 1": (lambda: upsample(LOGITS, IMAGE[:1]),
        "image: got shape (1, 3, 64, 80), expected (B=2, 3, H, W), since x has B=2. " + BROADCAST),
    "joint upsampling of a grey image": (lambda: upsample(LOGITS, IMAGE[:, :1]),
        "image: got shape (2, 1, 64, 80), expected (B=2, 3, H, W) by definition. " + BROADCAST),
    "joint upsampling of 0-255": (lambda: upsample(LOGITS, torch.full((2, 3, 8, 8), 255.0)),
        "image: got values from 255 to 255, expected RGB in [0, 1]. It looks like 0-255: divide "
        "by 255, or pass uint8 to lpprop.refine."),
    "sigma_space zero": (lambda: upsample(LOGITS, IMAGE, sigma_space=0),
        "sigma_space: got 0, expected a number in [1e-09, 1e+09]. Change sigma_space."),
    "sigma_range a string": (lambda: upsample(LOGITS, IMAGE, sigma_range="0.1"),
        "sigma_range: got '0.1', expected a number in [1e-09, 1e+09]. Change sigma_range."),
    "radius negative": (lambda: upsample(LOGITS, IMAGE, radius=-1),
        "radius: got -1, expected an integer >= 0. Change radius."),
    "joint upsampling to one number": (lambda: upsample(LOGITS, IMAGE, size=64),
        "size: got 64, expected a pair (H, W). Pass size=(height, width)."),
    "joint upsampling too far": (lambda: upsample(LOGITS, IMAGE, size=(2**16, 2**16)),
        "size: got 65536 x 65536 pixels, expected fewer than 2**31. Work on tiles of the image."),
    "joint upsampling module option": (lambda: lpprop.JointBilateralUpsample(radius=0.5),
        "radius: got 0.5, expected an integer >= 0. Change radius."),
    "joint upsampling module size": (lambda: lpprop.JointBilateralUpsample(size=64),
        "size: got 64, expected a pair (H, W). Pass size=(height, width)."),
    "joint upsampling module without image": (lambda: lpprop.JointBilateralUpsample()(LOGITS),
        "image: got None, expected a tensor. This method needs it: pass image=."),
    # attention
    "attention of feats on two axes": (lambda: from_features(FEATS[0, 0]),
        "feats: got shape (4, 5), expected 4 axes (B, D, h, w). " + AXES),
    "attention of NaN": (lambda: from_features(spoilt(FEATS, math.nan, 1, 0, 0, 0)),
        "feats: got 1 NaN or infinite of 320 values, the first at (1, 0, 0, 0), " + FINITE),
    "temperature zero": (lambda: from_features(FEATS, 0),
        "temperature: got 0, expected a number in (0, inf). Change temperature."),
    "attention too large for memory": (lambda: from_features(torch.ones(1, 2, 20, 20)),
        "feats: got 400 patches, whose 400 x 400 matrices need 0.00119 GiB, " + COARSER),
    "sharpened with heads": (lambda: sharpen(HEADS),
        "attention: got shape (2, 4, 20, 20), expected 3 axes (B, N, N). " + AXES),
    "sharpened negative": (lambda: sharpen(NEGATIVE),
        "attention: got values down to -0.5, " + SOFTMAX),
    "sharpened row of zeros": (lambda: sharpen(NO_ROW),
        "attention: got zeros in 2 of 40 rows, the first at (0, 7), expected a positive entry "
        "in every row. Add a small number to every entry, such as 1e-6, if that is meant."),
    "sharpened at temperature infinite": (lambda: sharpen(ATTENTION, math.inf),
        "temperature: got inf, expected a number in (0, inf). Change temperature."),
    # attention: heads and blocks
    "no map": (lambda: aggregate([]),
        "maps: got a list of 0, expected a list of one or more. Pass [attention] for a single "
        "one."),
    "maps a tensor": (lambda: aggregate(ATTENTION),
        "maps: got Tensor, expected a list of one or more. Pass [attention] for a single one."),
    "maps a string": (lambda: aggregate("maps.pt"),
        "maps: got str, expected a list of one or more. Pass [attention] for a single one."),
    "maps of None": (lambda: aggregate([None]),
        "maps[0]: got None, expected a tensor. This method needs it: pass maps[0]=."),
    "maps without batch": (lambda: aggregate([ATTENTION[0]]),
        "maps[0]: got shape (20, 20), expected 3 axes (B, M0, M0). " + AXES),
    "maps of batch 1": (lambda: aggregate([ATTENTION, HEADS[:1]], grids=[(4, 5)] * 2),
        "maps[1]: got shape (1, 4, 20, 20), expected (B=2, heads1, M1, M1), since maps[0] has "
        "B=2. " + BROADCAST),
    "maps not square": (lambda: aggregate([ATTENTION[:, :, :19]], grids=[(4, 5)]),
        "maps[0]: got shape (2, 20, 19), expected (B, M0, M0), since maps[0] has M0=20. "
        + BROADCAST),
    "maps negative": (lambda: aggregate([ATTENTION, NEGATIVE], grids=[(4, 5)] * 2),
        "maps[1]: got values down to -0.5, " + SOFTMAX),
    "maps with a row of zeros": (lambda: aggregate([ATTENTION, NO_ROW], grids=[(4, 5)] * 2),
        "maps[1]: got zeros in 2 of 40 rows, the first at (0, 7), expected a positive entry "
        "in every row. Add a small number to every entry, such as 1e-6, if that is meant."),
    "maps of no square grid": (lambda: aggregate([ATTENTION]),
        "maps[0]: got 20 patches, expected a square number. Pass grids=, the (h, w) of each map."),
    "maps of another shape": (lambda: aggregate([ATTENTION], size=(3, 5)),
        "maps[0]: got 20 patches, expected the number of a grid in the shape of 3 x 5. Pass "
        "grids=, the (h, w) of each map."),
    "maps of another grid": (lambda: aggregate([ATTENTION], grids=[(4, 4)]),
        "maps[0]: got 20 patches, expected 4 x 4, which grids[0] says. Correct grids[0]."),
    "grids of another number": (lambda: aggregate([ATTENTION] * 2, grids=[(4, 5)]),
        "grids: got a list of 1, expected a list of 2, one a map. Give each map its (h, w)."),
    "grids of numbers": (lambda: aggregate([ATTENTION], grids=[20]),
        "grids[0]: got 20, expected a pair (H, W). Pass grids[0]=(height, width)."),
    "size of maps one number": (lambda: aggregate([ATTENTION], size=8, grids=[(4, 5)]),
        "size: got 8, expected a pair (H, W). Pass size=(height, width)."),
    "weights of another number": (lambda: aggregate([ATTENTION], [0.5, 0.5], grids=[(4, 5)]),
        "weights: got a list of 2, expected a list of 1, one a map. Give each map its weight, "
        "0 to leave it out."),
    "weights of other heads": (lambda: aggregate([HEADS], [[0.5, 0.5]], grids=[(4, 5)]),
        "weights[0]: got 2 entries, expected 4, one a head. Give one number for all heads, or "
        "one for each."),
    "weights negative": (lambda: aggregate([ATTENTION], [-1], grids=[(4, 5)]),
        "weights[0]: got -1, expected a number in [0, inf). Change weights[0]."),
    "weights of a head NaN": (lambda: aggregate([HEADS], [[1, 0, 0, math.nan]], grids=[(4, 5)]),
        "weights[0]: got nan, expected a number in [0, inf). Change weights[0]."),
    "weights all zero": (lambda: aggregate([HEADS], [0], grids=[(4, 5)]),
        "weights: got zeros, expected a positive one. Change weights."),
    "maps too large for memory": (lambda: aggregate([WIDER], size=(2, 2)),
        "maps: got 400 patches, whose 400 x 400 matrices need 0.00298 GiB, expected at most "
        "the 0.000977 GiB that are free on cpu. Use a coarser grid (lpprop.bilinear_upsample "
        "also makes grids smaller, lpprop.aggregate_attention does so for attention), or "
        "fewer items at once."),
    # solvers
    "sinkhorn of other patches": (lambda: sinkhorn(ATTENTION[0], EVEN[0, :, :19]),
        "cost: got shape (20, 20), expected (N=19, N=19), since distribution has N=19. "
        + BROADCAST),
    "sinkhorn of a batch": (lambda: sinkhorn(ATTENTION, EVEN),
        "distribution: got shape (2, 3, 20), expected 2 axes (C, N). " + AXES),
    "sinkhorn of negative values": (lambda: sinkhorn(ATTENTION[0], spoilt(EVEN[0], -0.5, 2, 0)),
        "distribution: got values down to -0.5, expected no negative value. Divide each row "
        "by its sum."),
    "sinkhorn of a row of zeros": (
        lambda: sinkhorn(ATTENTION[0], EVEN[0].index_fill(0, torch.tensor([1]), 0.0)),
        "distribution: got zeros in 1 of 3 rows, the first at (1,), expected a positive entry "
        "in every row. Add a small number to every entry, such as 1e-6, if that is meant."),
    "sinkhorn epsilon": (lambda: sinkhorn(ATTENTION[0], EVEN[0], epsilon=-1),
        "epsilon: got -1, expected a number in (0, inf). Change epsilon."),
    "sinkhorn iterations": (lambda: sinkhorn(ATTENTION[0], EVEN[0], iterations=0),
        "iterations: got 0, expected an integer >= 1. Change iterations."),
    "sinkhorn tol": (lambda: sinkhorn(ATTENTION[0], EVEN[0], tol=math.nan),
        "tol: got nan, expected a number in [0, inf). Change tol."),
    "ipf of no square matrix": (lambda: ipf(ATTENTION[0, :19]),
        "matrix: got shape (19, 20), expected (N, N), since matrix has N=19. " + BROADCAST),
    "ipf of negative values": (lambda: ipf(NEGATIVE[1]),
        "matrix: got values down to -0.5, expected no negative value. Take attention after the "
        "softmax."),
    "ipf of a column of zeros": (lambda: ipf(NO_COLUMN[0]),
        "matrix: got zeros in 1 of 20 columns, the first at (7,), expected a positive entry "
        "in every column. Add a small number to every entry, such as 1e-6, if that is meant."),
    "ipf iterations": (lambda: ipf(ATTENTION[0], iterations=1.5),
        "iterations: got 1.5, expected an integer >= 1. Change iterations."),
    "ipf tol": (lambda: ipf(ATTENTION[0], tol=-1),
        "tol: got -1, expected a number in [0, inf). Change tol."),
    "ipf scaling overflow": (lambda: ipf(torch.full((2, 2), 1e-40)),
        "matrix: got values from 1e-40 to 1e-40, whose scaling leaves the range of "
        "torch.float32, expected a matrix nearer to a doubly stochastic one. Take fewer "
        "iterations, or add a small number to every entry."),
    # chains and fusion
    "chain temperature": (lambda: lpprop.Chain(lpprop.OptimalPath(), temperature=0.0),
        "temperature: got 0.0, expected a number in (0, inf). Change temperature."),
    "chain without attention and feats": (
        lambda: lpprop.presets.optimal_path()(LOGITS, image=IMAGE),
        "attention: got None, and no feats to build it from, expected attention or feats. "
        + ONE_OF_THEM),
    "inner chain without attention and feats": (
        lambda: lpprop.Chain(lpprop.ClassDistribution(), lpprop.Chain(lpprop.MaxVelocity()))(
        LOGITS),
        "attention: got None, and no feats to build it from, expected attention or feats. "
        + ONE_OF_THEM),
    "chain with attention of other patches": (
        lambda: lpprop.presets.max_velocity()(LOGITS, image=IMAGE, attention=ATTENTION[:, :18,
        :18]),
        "attention: got 18 patches, expected those of the logits' grid, 4 x 5, or of a grid of "
        "that shape. " + RESAMPLE),
    "chain with attention that needs the feats' grid": (
        lambda: lpprop.Chain(lpprop.PatchPropagation(), lpprop.ClassDistribution(),
        lpprop.MaxVelocity())(LOGITS, feats=FEATS, attention=torch.ones(2, 80, 80)),
        "attention: got 80 patches, expected those of the feats' grid, 4 x 5, or of a grid of "
        "that shape. " + RESAMPLE),
    "chain with attention of batch 1": (
        lambda: lpprop.presets.max_velocity()(LOGITS, image=IMAGE, attention=ATTENTION[:1]),
        "attention: got shape (1, 20, 20), expected (B=2, N, N), since logits has B=2. "
        + BROADCAST),
    "chain with feats of batch 1 for attention": (
        lambda: lpprop.presets.max_velocity()(LOGITS, image=IMAGE, feats=FEATS[:1]),
        "feats: got shape (1, 8, 4, 5), expected (B=2, D, h', w'), since logits has B=2. "
        + BROADCAST),
    "chain too large for memory": (
        lambda: lpprop.Chain(lpprop.ClassDistribution(), lpprop.OptimalPath())(LOGITS[:1],
        feats=torch.ones(1, 2, 20, 20)),
        "feats: got 400 patches, whose 400 x 400 matrices need 0.00417 GiB, expected at most "
        "the 0.000977 GiB that are free on cpu. Use a coarser grid (lpprop.bilinear_upsample "
        "also makes grids smaller, lpprop.aggregate_attention does so for attention), or "
        "fewer items at once."),
    "chain whose path is too large for memory": (
        lambda: lpprop.presets.optimal_path()(torch.rand(1, 2, 15, 20), image=IMAGE[:1],
        attention=torch.ones(1, 300, 300)),
        "attention: got 300 patches, whose 300 x 300 matrices need 0.00134 GiB, expected at "
        "most the 0.000977 GiB that are free on cpu. Use a coarser grid "
        "(lpprop.bilinear_upsample also makes grids smaller, lpprop.aggregate_attention does "
        "so for attention), or fewer items at once."),
    "map of logits": (lambda: lpprop.Chain(lpprop.KLDiscrepancy())(FULL.new_ones(1, 1, 2, 2)),
        "distribution: got a row that sums to 4, the first at (0, 0), " + SUMS),
    "fusion of one": (lambda: lpprop.Fusion(lpprop.OptimalPath()),
        "steps: got 1, expected at least two. Add a step."),
    "fusion of what cannot be called": (lambda: lpprop.Fusion(lpprop.OptimalPath(), "kl"),
        "steps: got 'kl' (it is not callable), " + STEP),
    # presets and refine
    "path preset option unknown": (lambda: lpprop.presets.optimal_path(tau=0.5),
        "tau: got an option that optimal_path does not have, expected one of temperature, "
        "nms, threshold, confidence, logit_scale, early_rejection, epsilon, iterations, norm, "
        "complement, sigma_space, sigma_range, radius, size, backend. Remove tau."),
    "velocity preset option mistyped": (lambda: lpprop.presets.max_velocity(max_step=5),
        "max_step: got an option that max_velocity does not have, expected one of "
        "temperature, nms, threshold, confidence, logit_scale, early_rejection, tau, "
        "ipf_iterations, criterion, max_steps, sigma_space, sigma_range, radius, size, "
        "backend. Did you mean max_steps?"),
    "divergence preset option of another": (lambda: lpprop.presets.kl(temperature=0.1),
        "temperature: got an option that kl does not have, expected one of nms, threshold, "
        "confidence, logit_scale, early_rejection, sigma_space, sigma_range, radius, size, "
        "backend. Remove temperature."),
    "fusion preset option mistyped": (lambda: lpprop.presets.fusion(epsilom=0.1),
        "epsilom: got an option that fusion does not have, expected one of temperature, nms, "
        "threshold, confidence, logit_scale, early_rejection, epsilon, iterations, norm, "
        "complement, tau, ipf_iterations, criterion, max_steps, sigma_space, sigma_range, "
        "radius, size, backend. Did you mean epsilon?"),
    "preset temperature": (lambda: lpprop.presets.fusion(temperature=-1),
        "temperature: got -1, expected a number in (0, inf). Change temperature."),
    "preset size": (lambda: lpprop.presets.kl(size=64),
        "size: got 64, expected a pair (H, W). Pass size=(height, width)."),
    "refine without attention and feats": (
        lambda: refine(LOGITS, image=IMAGE, method="max_velocity"),
        "attention: got None, and no feats to build it from, expected attention or feats. "
        + ONE_OF_THEM),
    "refine without image for the upsampling": (
        lambda: refine(LOGITS, attention=ATTENTION, size=(64, 80), method="optimal_path"),
        "image: got None, expected a tensor. This method needs it: pass image=."),
    "refine attention of other patches": (
        lambda: refine(LOGITS, image=IMAGE, attention=HEADS[..., :18, :18], method="fusion"),
        "attention: got 18 patches, expected those of the logits' grid, 4 x 5, or of a grid of "
        "that shape. " + RESAMPLE),
    "refine windows of a method for one image": (
        lambda: refine(*CROPS, WIDE, windows=WINDOWS, method="kl"),
        "windows: got sliding windows, expected None, since ClassDistribution works on one "
        "image. Refine whole images with this method. In a chain of your own, put "
        "BilinearUpsample() before a step on pixels, or give yours a keyword windows=."),
    "refine map of logits": (
        lambda: refine(LOGITS.clamp(0.5, 0.5), FEATS, IMAGE, method=lpprop.OptimalPath()),
        "distribution: got a row that sums to 10, the first at (0, 0), " + SUMS),
    "refine attention before the softmax": (
        lambda: refine(LOGITS, image=IMAGE, attention=NEGATIVE, method="max_velocity"),
        "attention: got values down to -0.5, " + SOFTMAX),
    "refine heads before the softmax": (
        lambda: refine(LOGITS, image=IMAGE, attention=-HEADS.clamp(0.5, 0.5),
        method="max_velocity"),
        "attention: got values down to -0.5, " + SOFTMAX),
    "temperature beside attention": (
        lambda: refine(LOGITS, None, IMAGE, attention=ATTENTION, method="kl", temperature=0.5),
        "temperature: got an option that kl does not have, expected one of nms, threshold, "
        "confidence, logit_scale, early_rejection, sigma_space, sigma_range, radius, size, "
        "backend. Remove temperature."),
    "velocity at a temperature beside attention": (
        lambda: refine(
            LOGITS, None, IMAGE, attention=ATTENTION, method="max_velocity", temperature=0.65),
        "temperature: got 0.65 beside attention, expected one of them, since it is that of "
        "attention built from feats. To sharpen attention, pass "
        "lpprop.sharpen_attention(attention, temperature)."),
    "epsilon too small for the cost": (lambda: path(EVEN, 1e4 + 0 * ATTENTION, epsilon=1e-9),
        "epsilon: got 1e-09 for costs from 1e+04 to 1e+04, expected at least 1/1e+12 of the "
        "largest cost. Raise epsilon, or scale the cost down; below, the exponents are but "
        "rounding."),
    "sinkhorn cost in half": (lambda: sinkhorn(ATTENTION[0].half(), EVEN[0]),
        "cost: got dtype torch.float16, expected float32 or float64. Pass cost.float()."),
    # what is of another kind
    "maps a dictionary": (lambda: aggregate({"up0": ATTENTION}),
        "maps: got dict, expected a list of one or more. Pass [attention] for a single one."),
    "weights a number": (lambda: aggregate([ATTENTION], 0.5, grids=[(4, 5)]),
        "weights: got float, expected a list of 1, one a map. Give each map its weight, 0 to "
        "leave it out."),
    "grids a number": (lambda: aggregate([ATTENTION], grids=20),
        "grids: got int, expected a list of 1, one a map. Give each map its (h, w)."),
    "grids one pair": (lambda: aggregate([ATTENTION], grids=(4, 5)),
        "grids: got a list of 2, expected a list of 1, one a map. Give each map its (h, w)."),
    "sinkhorn in half": (lambda: sinkhorn(ATTENTION[0].half(), EVEN[0].half()),
        "distribution: got dtype torch.float16, expected float32 or float64. Pass "
        "distribution.float()."),
    "ipf in half": (lambda: ipf(ATTENTION[0].half()),
        "matrix: got dtype torch.float16, expected float32 or float64. Pass matrix.float()."),
    "fusion of sizes that differ": (
        lambda: lpprop.Fusion(lpprop.KLDiscrepancy(), lpprop.BilinearUpsample())(
            EVEN.unflatten(2, (4, 5)), image=IMAGE),
        "steps: got maps of shapes (2, 3, 4, 5), (2, 3, 64, 80), expected one shape. Upsample "
        "after the fusion, or in each of its steps."),
    "fusion of patches": (
        lambda: lpprop.Fusion(lpprop.KLDiscrepancy(), lpprop.KLDiscrepancy())(EVEN),
        "logits: got shape (2, 3, 20), expected 4 axes (B, C, h, w). Add the missing axes "
        "with .unsqueeze(0), or drop the extra ones."),
    "chain of no logits": (lambda: lpprop.Chain(lpprop.KLDiscrepancy())(None),
        "logits: got None, expected a tensor. This method needs it: pass logits=."),
    "upsampling size at once": (lambda: lpprop.JointBilateralUpsample(size=64),
        "size: got 64, expected a pair (H, W). Pass size=(height, width)."),
}
# fmt: on

# Known only when a step is reached: what it makes of its input, or what it is not told before.
AFTERWARDS = {
    "paths that vanish in half",
    "fusion of sizes that differ",
    "refine attention before the softmax",
    "refine map of logits",
}
