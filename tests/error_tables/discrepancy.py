"""Class distributions, their maps, attention, joint bilateral upsampling, and their chains."""

import math

import torch

import lpprop
from error_tables.samples import ATTENTION, CROPS, FEATS, FULL, IMAGE, LOGITS, WIDE, WINDOWS, spoilt
from lpprop.inputs.attention import as_rows
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
proxy = lpprop.proxy_attention

# Three classes over 20 patches, all alike.
EVEN = torch.full((2, 3, 20), 1 / 20)
HEADS = ATTENTION[:, None].expand(2, 4, 20, 20)
# More patches than there is memory for, where that is 1 MiB.
MANY, WIDER = torch.full((1, 2, 1600), 1 / 1600), torch.full((1, 1600, 1600), 1 / 1600)
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
    "expected at most the 0.00781 GiB that are free on cpu. Use a coarser grid "
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
    "distribution of no logits": (lambda: distribution(None), "logits: got None"),
    "distribution without batch": (lambda: distribution(LOGITS[0]), "logits: got shape (3, 4, 5)"),
    "distribution of no classes": (lambda: distribution(LOGITS[:, :0]),
        "logits: got shape (2, 0, 4, 5)"),
    "distribution of NaN": (lambda: distribution(spoilt(LOGITS, math.nan, 1, 0, 0, 0)),
        "logits: got 1 NaN or infinite of 120 values, the first at (1, 0, 0, 0)"),
    "nms above 1": (lambda: distribution(LOGITS, nms=1.5), "nms: got 1.5"),
    "nms NaN": (lambda: distribution(LOGITS, nms=math.nan), "nms: got nan"),
    "threshold unknown": (lambda: distribution(LOGITS, threshold="max"), "threshold: got 'max'"),
    "confidence unknown": (lambda: distribution(LOGITS, confidence=None), "confidence: got None"),
    "logit_scale zero": (lambda: distribution(LOGITS, logit_scale=0.0), "logit_scale: got 0.0"),
    "early_rejection a number": (lambda: distribution(LOGITS, early_rejection=1),
        "early_rejection: got 1"),
    "distribution module option": (lambda: lpprop.ClassDistribution(nms=-0.1), "nms: got -0.1"),
    "distribution module option unknown": (lambda: lpprop.ClassDistribution(nsm=0.5),
        "nsm: got an option that ClassDistribution does not have"),
    # the divergence
    "divergence on the grid": (lambda: kl(EVEN.unflatten(2, (4, 5))),
        "distribution: got shape (2, 3, 4, 5)"),
    "divergence of logits": (lambda: kl(2 * EVEN),
        "distribution: got a row that sums to 2, the first at (0, 0)"),
    "divergence of one row that is none": (lambda: kl(spoilt(EVEN, 0.25, 1, 2, 0)),
        "distribution: got a row that sums to 1.2, the first at (1, 2)"),
    "divergence of negative values": (lambda: kl(spoilt(EVEN, -0.5, 1, 2, 0)),
        "distribution: got values down to -0.5"),
    "divergence module option": (lambda: lpprop.KLDiscrepancy(base=2),
        "base: got an option that KLDiscrepancy does not have"),
    # the path
    "path without cost": (lambda: path(EVEN, None), "cost: got None"),
    "path of other patches": (lambda: path(EVEN[..., :19], ATTENTION),
        "cost: got shape (2, 20, 20)"),
    "path of cost of batch 1": (lambda: path(EVEN, ATTENTION[:1]), "cost: got shape (1, 20, 20)"),
    "path of cost not square": (lambda: path(EVEN, ATTENTION[:, :, :19]),
        "cost: got shape (2, 20, 19)"),
    "path of cost with heads": (lambda: path(EVEN, HEADS), "cost: got shape (2, 4, 20, 20)"),
    "path of NaN in cost": (lambda: path(EVEN, spoilt(ATTENTION, math.nan, 1, 2, 3)),
        "cost: got 1 NaN or infinite of 800 values, the first at (1, 2, 3)"),
    "path of logits": (lambda: path(2 * EVEN, ATTENTION),
        "distribution: got a row that sums to 2, the first at (0, 0)"),
    "path of negative values": (lambda: path(spoilt(EVEN, -0.5, 1, 2, 0), ATTENTION),
        "distribution: got values down to -0.5"),
    "epsilon zero": (lambda: path(EVEN, ATTENTION, epsilon=0), "epsilon: got 0"),
    "iterations zero": (lambda: path(EVEN, ATTENTION, iterations=0), "iterations: got 0"),
    "norm unknown": (lambda: path(EVEN, ATTENTION, norm=None), "norm: got None"),
    "complement a number": (lambda: path(EVEN, ATTENTION, complement=0), "complement: got 0"),
    "paths that vanish in half": (lambda: path(EVEN.half(), torch.full((2, 20, 20), 1e-5)),
        "distribution: got torch.float16, in which paths up to 5e-07 vanish"),
    "path too large for memory": (lambda: path(MANY, WIDER),
        "cost: got 1600 patches, whose 1600 x 1600 matrices need 0.00978 GiB"),
    "path module option": (lambda: lpprop.OptimalPath(epsilon=math.inf), "epsilon: got inf"),
    "path module without attention": (lambda: lpprop.OptimalPath()(EVEN), "attention: got None"),
    # the velocity
    "velocity without attention": (lambda: velocity(EVEN, None), "attention: got None"),
    "velocity on the grid": (lambda: velocity(EVEN.unflatten(2, (4, 5)), ATTENTION),
        "distribution: got shape (2, 3, 4, 5)"),
    "velocity of other patches": (lambda: velocity(EVEN, ATTENTION[:, :19, :19]),
        "attention: got shape (2, 19, 19)"),
    "velocity of negative values": (lambda: velocity(spoilt(EVEN, -0.5, 1, 2, 0), ATTENTION),
        "distribution: got values down to -0.5"),
    "velocity of attention before the softmax": (lambda: velocity(EVEN, NEGATIVE),
        "attention: got values down to -0.5"),
    "velocity of a row of zeros": (lambda: velocity(EVEN, NO_ROW),
        "attention: got zeros in 2 of 40 rows, the first at (0, 7)"),
    "velocity of a column of zeros": (lambda: velocity(EVEN, NO_COLUMN),
        "attention: got zeros in 2 of 40 columns, the first at (0, 7)"),
    "tau one": (lambda: velocity(EVEN, ATTENTION, tau=1), "tau: got 1"),
    "ipf_iterations zero": (lambda: velocity(EVEN, ATTENTION, ipf_iterations=0),
        "ipf_iterations: got 0"),
    "criterion unknown": (lambda: velocity(EVEN, ATTENTION, criterion="Eq. 12"),
        "criterion: got 'Eq. 12'"),
    "max_steps infinite": (lambda: velocity(EVEN, ATTENTION, max_steps=math.inf),
        "max_steps: got inf"),
    "velocity too large for memory": (lambda: velocity(MANY, WIDER),
        "attention: got 1600 patches, whose 1600 x 1600 matrices need 0.00966 GiB"),
    "velocity module option": (lambda: lpprop.MaxVelocity(tau=-0.1), "tau: got -0.1"),
    "velocity module without attention": (lambda: lpprop.MaxVelocity()(EVEN),
        "attention: got None"),
    # joint bilateral upsampling
    "joint upsampling without image": (lambda: upsample(LOGITS, None), "image: got None"),
    "joint upsampling of image of batch 1": (lambda: upsample(LOGITS, IMAGE[:1]),
        "image: got shape (1, 3, 64, 80)"),
    "joint upsampling of a grey image": (lambda: upsample(LOGITS, IMAGE[:, :1]),
        "image: got shape (2, 1, 64, 80)"),
    "joint upsampling of 0-255": (lambda: upsample(LOGITS, torch.full((2, 3, 8, 8), 255.0)),
        "image: got values from 255 to 255"),
    "sigma_space zero": (lambda: upsample(LOGITS, IMAGE, sigma_space=0), "sigma_space: got 0"),
    "sigma_range a string": (lambda: upsample(LOGITS, IMAGE, sigma_range="0.1"),
        "sigma_range: got '0.1'"),
    "radius negative": (lambda: upsample(LOGITS, IMAGE, radius=-1), "radius: got -1"),
    "joint upsampling to one number": (lambda: upsample(LOGITS, IMAGE, size=64), "size: got 64"),
    "joint upsampling too far": (lambda: upsample(LOGITS, IMAGE, size=(2**16, 2**16)),
        "size: got 65536 x 65536 pixels"),
    "joint upsampling module option": (lambda: lpprop.JointBilateralUpsample(radius=0.5),
        "radius: got 0.5"),
    "joint upsampling module size": (lambda: lpprop.JointBilateralUpsample(size=64),
        "size: got 64"),
    "joint upsampling module without image": (lambda: lpprop.JointBilateralUpsample()(LOGITS),
        "image: got None"),
    # attention
    "attention of feats on two axes": (lambda: from_features(FEATS[0, 0]),
        "feats: got shape (4, 5)"),
    "attention of NaN": (lambda: from_features(spoilt(FEATS, math.nan, 1, 0, 0, 0)),
        "feats: got 1 NaN or infinite of 320 values, the first at (1, 0, 0, 0)"),
    "temperature zero": (lambda: from_features(FEATS, 0), "temperature: got 0"),
    "attention too large for memory": (lambda: from_features(torch.ones(1, 2, 40, 40)),
        "feats: got 1600 patches, whose 1600 x 1600 matrices need 0.0191 GiB"),
    "proxy attention of feats on two axes": (lambda: proxy(FEATS[0, 0]),
        "feats: got shape (4, 5), expected 4 axes"),
    "proxy attention of NaN": (lambda: proxy(spoilt(FEATS, math.nan, 1, 0, 0, 0)),
        "feats: got 1 NaN or infinite of 320 values, the first at (1, 0, 0, 0)"),
    "beta negative": (lambda: proxy(FEATS, beta=-0.1), "beta: got -0.1"),
    "gamma of proxy attention zero": (lambda: proxy(FEATS, gamma=0), "gamma: got 0"),
    "proxy attention too large for memory": (lambda: proxy(torch.ones(1, 2, 40, 40)),
        "feats: got 1600 patches, whose 1600 x 1600 matrices need 0.0191 GiB, " + COARSER),
    "sharpened with heads": (lambda: sharpen(HEADS), "attention: got shape (2, 4, 20, 20)"),
    "sharpened negative": (lambda: sharpen(NEGATIVE), "attention: got values down to -0.5"),
    "sharpened row of zeros": (lambda: sharpen(NO_ROW),
        "attention: got zeros in 2 of 40 rows, the first at (0, 7)"),
    "sharpened at temperature infinite": (lambda: sharpen(ATTENTION, math.inf),
        "temperature: got inf"),
    # attention: heads and blocks
    "no map": (lambda: aggregate([]), "maps: got a list of 0"),
    "maps a tensor": (lambda: aggregate(ATTENTION), "maps: got Tensor"),
    "maps a string": (lambda: aggregate("maps.pt"), "maps: got str"),
    "maps of None": (lambda: aggregate([None]), "maps[0]: got None"),
    "maps without batch": (lambda: aggregate([ATTENTION[0]]), "maps[0]: got shape (20, 20)"),
    "maps of batch 1": (lambda: aggregate([ATTENTION, HEADS[:1]], grids=[(4, 5)] * 2),
        "maps[1]: got shape (1, 4, 20, 20)"),
    "maps not square": (lambda: aggregate([ATTENTION[:, :, :19]], grids=[(4, 5)]),
        "maps[0]: got shape (2, 20, 19)"),
    "maps negative": (lambda: aggregate([ATTENTION, NEGATIVE], grids=[(4, 5)] * 2),
        "maps[1]: got values down to -0.5"),
    "maps with a row of zeros": (lambda: aggregate([ATTENTION, NO_ROW], grids=[(4, 5)] * 2),
        "maps[1]: got zeros in 2 of 40 rows, the first at (0, 7)"),
    "maps whose rows overflow": (lambda: aggregate([3e38 * torch.ones(1, 4, 4)]),
        "maps[0]: got rows that sum to inf to inf, expected sums that torch.float32 can hold. "
        "Scale the rows first: maps[0] / maps[0].amax(-1, keepdim=True)."),
    "attention whose rows overflow": (lambda: as_rows(1e-42 * torch.ones(1, 4, 4)),
        "attention: got rows that sum to 4e-42 to 4e-42, expected sums"),
    "attention with heads and a row of zeros": (lambda: as_rows(NO_ROW[:, None]),
        "attention: got zeros in 2 of 40 rows, the first at (0, 0, 7), " + ROW),
    "attention without a batch": (lambda: as_rows(ATTENTION[0]),
        "attention: got shape (20, 20), expected 3 axes"),
    "maps of no square grid": (lambda: aggregate([ATTENTION]), "maps[0]: got 20 patches"),
    "maps of another shape": (lambda: aggregate([ATTENTION], size=(3, 5)),
        "maps[0]: got 20 patches"),
    "maps of another grid": (lambda: aggregate([ATTENTION], grids=[(4, 4)]),
        "maps[0]: got 20 patches"),
    "grids of another number": (lambda: aggregate([ATTENTION] * 2, grids=[(4, 5)]),
        "grids: got a list of 1"),
    "grids of numbers": (lambda: aggregate([ATTENTION], grids=[20]), "grids[0]: got 20"),
    "size of maps one number": (lambda: aggregate([ATTENTION], size=8, grids=[(4, 5)]),
        "size: got 8"),
    "weights of another number": (lambda: aggregate([ATTENTION], [0.5, 0.5], grids=[(4, 5)]),
        "weights: got a list of 2"),
    "weights of other heads": (lambda: aggregate([HEADS], [[0.5, 0.5]], grids=[(4, 5)]),
        "weights[0]: got 2 entries"),
    "weights negative": (lambda: aggregate([ATTENTION], [-1], grids=[(4, 5)]),
        "weights[0]: got -1"),
    "weights of a head NaN": (lambda: aggregate([HEADS], [[1, 0, 0, math.nan]], grids=[(4, 5)]),
        "weights[0]: got nan"),
    "weights all zero": (lambda: aggregate([HEADS], [0], grids=[(4, 5)]), "weights: got zeros"),
    "maps too large for memory": (lambda: aggregate([WIDER], size=(2, 2)),
        "maps: got 1600 patches, whose 1600 x 1600 matrices need 0.0477 GiB"),
    # solvers
    "sinkhorn of other patches": (lambda: sinkhorn(ATTENTION[0], EVEN[0, :, :19]),
        "cost: got shape (20, 20)"),
    "sinkhorn of a batch": (lambda: sinkhorn(ATTENTION, EVEN),
        "distribution: got shape (2, 3, 20)"),
    "sinkhorn of negative values": (lambda: sinkhorn(ATTENTION[0], spoilt(EVEN[0], -0.5, 2, 0)),
        "distribution: got values down to -0.5"),
    "sinkhorn of a row of zeros": (
        lambda: sinkhorn(ATTENTION[0], EVEN[0].index_fill(0, torch.tensor([1]), 0.0)),
        "distribution: got zeros in 1 of 3 rows, the first at (1,)"),
    "sinkhorn epsilon": (lambda: sinkhorn(ATTENTION[0], EVEN[0], epsilon=-1), "epsilon: got -1"),
    "sinkhorn iterations": (lambda: sinkhorn(ATTENTION[0], EVEN[0], iterations=0),
        "iterations: got 0"),
    "sinkhorn tol": (lambda: sinkhorn(ATTENTION[0], EVEN[0], tol=math.nan), "tol: got nan"),
    "ipf of no square matrix": (lambda: ipf(ATTENTION[0, :19]), "matrix: got shape (19, 20)"),
    "ipf of negative values": (lambda: ipf(NEGATIVE[1]), "matrix: got values down to -0.5"),
    "ipf of a column of zeros": (lambda: ipf(NO_COLUMN[0]),
        "matrix: got zeros in 1 of 20 columns, the first at (7,)"),
    "ipf iterations": (lambda: ipf(ATTENTION[0], iterations=1.5), "iterations: got 1.5"),
    "ipf tol": (lambda: ipf(ATTENTION[0], tol=-1), "tol: got -1"),
    "ipf scaling overflow": (lambda: ipf(torch.full((2, 2), 1e-40)),
        "matrix: got values from 1e-40 to 1e-40, whose scaling leaves the range of torch.float32"),
    # chains and fusion
    "chain temperature": (lambda: lpprop.Chain(lpprop.OptimalPath(), temperature=0.0),
        "temperature: got 0.0"),
    "chain without attention and feats": (
        lambda: lpprop.presets.optimal_path()(LOGITS, image=IMAGE),
        "attention: got None, and no feats to build it from"),
    "inner chain without attention and feats": (
        lambda: lpprop.Chain(lpprop.ClassDistribution(), lpprop.Chain(lpprop.MaxVelocity()))(
        LOGITS),
        "attention: got None, and no feats to build it from"),
    "chain with attention of other patches": (
        lambda: lpprop.presets.max_velocity()(LOGITS, image=IMAGE, attention=ATTENTION[:, :18,
        :18]),
        "attention: got 18 patches"),
    "chain with attention that needs the feats' grid": (
        lambda: lpprop.Chain(lpprop.PatchPropagation(), lpprop.ClassDistribution(),
        lpprop.MaxVelocity())(LOGITS, feats=FEATS, attention=torch.ones(2, 80, 80)),
        "attention: got 80 patches"),
    "chain with attention of batch 1": (
        lambda: lpprop.presets.max_velocity()(LOGITS, image=IMAGE, attention=ATTENTION[:1]),
        "attention: got shape (1, 20, 20)"),
    "chain with feats of batch 1 for attention": (
        lambda: lpprop.presets.max_velocity()(LOGITS, image=IMAGE, feats=FEATS[:1]),
        "feats: got shape (1, 8, 4, 5)"),
    "chain too large for memory": (
        lambda: lpprop.Chain(lpprop.ClassDistribution(), lpprop.OptimalPath())(LOGITS[:1],
        feats=torch.ones(1, 2, 40, 40)),
        "feats: got 1600 patches, whose 1600 x 1600 matrices need 0.0668 GiB"),
    "chain whose path is too large for memory": (
        lambda: lpprop.presets.optimal_path()(torch.rand(1, 2, 30, 40), image=IMAGE[:1],
        attention=torch.ones(1, 1200, 1200)),
        "attention: got 1200 patches, whose 1200 x 1200 matrices need 0.0215 GiB"),
    "map of logits": (lambda: lpprop.Chain(lpprop.KLDiscrepancy())(FULL.new_ones(1, 1, 2, 2)),
        "distribution: got a row that sums to 4, the first at (0, 0)"),
    "fusion of one": (lambda: lpprop.Fusion(lpprop.OptimalPath()), "steps: got 1"),
    "fusion of what cannot be called": (lambda: lpprop.Fusion(lpprop.OptimalPath(), "kl"),
        "steps: got 'kl' (it is not callable)"),
    # presets and refine
    "path preset option unknown": (lambda: lpprop.presets.optimal_path(tau=0.5),
        "tau: got an option that optimal_path does not have"),
    "velocity preset option mistyped": (lambda: lpprop.presets.max_velocity(max_step=5),
        "max_step: got an option that max_velocity does not have"),
    "divergence preset option of another": (lambda: lpprop.presets.kl(temperature=0.1),
        "temperature: got an option that kl does not have"),
    "fusion preset option mistyped": (lambda: lpprop.presets.fusion(epsilom=0.1),
        "epsilom: got an option that fusion does not have"),
    "preset temperature": (lambda: lpprop.presets.fusion(temperature=-1), "temperature: got -1"),
    "preset size": (lambda: lpprop.presets.kl(size=64), "size: got 64"),
    "refine without attention and feats": (
        lambda: refine(LOGITS, image=IMAGE, method="max_velocity"),
        "attention: got None, and no feats to build it from"),
    "refine without image for the upsampling": (
        lambda: refine(LOGITS, attention=ATTENTION, size=(64, 80), method="optimal_path"),
        "image: got None"),
    "refine attention of other patches": (
        lambda: refine(LOGITS, image=IMAGE, attention=HEADS[..., :18, :18], method="fusion"),
        "attention: got 18 patches"),
    "refine windows of a method for one image": (
        lambda: refine(*CROPS, WIDE, windows=WINDOWS, method="kl"),
        "windows: got sliding windows"),
    "refine map of logits": (
        lambda: refine(LOGITS.clamp(0.5, 0.5), FEATS, IMAGE, method=lpprop.OptimalPath()),
        "distribution: got a row that sums to 10, the first at (0, 0)"),
    "refine attention before the softmax": (
        lambda: refine(LOGITS, image=IMAGE, attention=NEGATIVE, method="max_velocity"),
        "attention: got values down to -0.5"),
    "refine heads before the softmax": (
        lambda: refine(LOGITS, image=IMAGE, attention=-HEADS.clamp(0.5, 0.5),
        method="max_velocity"),
        "attention: got values down to -0.5"),
    "temperature beside attention": (
        lambda: refine(LOGITS, None, IMAGE, attention=ATTENTION, method="kl", temperature=0.5),
        "temperature: got an option that kl does not have"),
    "velocity at a temperature beside attention": (lambda: refine(
            LOGITS, None, IMAGE, attention=ATTENTION, method="max_velocity", temperature=0.65),
        "temperature: got 0.65 beside attention"),
    "epsilon too small for the cost": (lambda: path(EVEN, 1e4 + 0 * ATTENTION, epsilon=1e-9),
        "epsilon: got 1e-09 for costs from 1e+04 to 1e+04"),
    "sinkhorn cost in half": (lambda: sinkhorn(ATTENTION[0].half(), EVEN[0]),
        "cost: got dtype torch.float16"),
    # what is of another kind
    "maps a dictionary": (lambda: aggregate({"up0": ATTENTION}), "maps: got dict"),
    "weights a number": (lambda: aggregate([ATTENTION], 0.5, grids=[(4, 5)]), "weights: got float"),
    "grids a number": (lambda: aggregate([ATTENTION], grids=20), "grids: got int"),
    "grids one pair": (lambda: aggregate([ATTENTION], grids=(4, 5)), "grids: got a list of 2"),
    "sinkhorn in half": (lambda: sinkhorn(ATTENTION[0].half(), EVEN[0].half()),
        "distribution: got dtype torch.float16"),
    "ipf in half": (lambda: ipf(ATTENTION[0].half()), "matrix: got dtype torch.float16"),
    "fusion of sizes that differ": (
        lambda: lpprop.Fusion(lpprop.KLDiscrepancy(), lpprop.BilinearUpsample())(
            EVEN.unflatten(2, (4, 5)), image=IMAGE),
        "steps: got maps of shapes (2, 3, 4, 5), (2, 3, 64, 80)"),
    "fusion of patches": (
        lambda: lpprop.Fusion(lpprop.KLDiscrepancy(), lpprop.KLDiscrepancy())(EVEN),
        "logits: got shape (2, 3, 20)"),
    "chain of no logits": (lambda: lpprop.Chain(lpprop.KLDiscrepancy())(None), "logits: got None"),
    "upsampling size at once": (lambda: lpprop.JointBilateralUpsample(size=64), "size: got 64"),
}
# fmt: on

# Known only when a step is reached: what it makes of its input, or what it is not told before.
AFTERWARDS = {
    "paths that vanish in half",
    "fusion of sizes that differ",
    "refine attention before the softmax",
    "refine map of logits",
}
