"""Every InputError: which argument, what came, what was expected, what to do, and before any work.

A row of TABLE is a call and its message. A last test walks the sources and makes sure that every
`raise` has a row.
"""

import ast
import math
import re
import traceback
from pathlib import Path

import kornia.color  # noqa: F401  (its import alone computes something)
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

import lpprop
from lpprop.solvers import cg

SOURCE = Path(lpprop.__file__).parent
MODULES = [
    "_inputs",
    "_refine",
    "affinity",
    "bilinear",
    "chain",
    "checks",
    "classes",
    "label_propagation",
    "presets",
    "refiner",
    "solvers",
    "windows",
]

LOGITS, FEATS, IMAGE = torch.rand(2, 3, 4, 5), torch.rand(2, 8, 4, 5), torch.rand(2, 3, 64, 80)
FULL = torch.rand(2, 3, 64, 80)
WINDOWS = lpprop.SlidingWindows((80, 112), 64, 32)
CROPS = torch.rand(6, 3, 4, 4), torch.rand(6, 8, 4, 4)
WIDE = torch.rand(1, 3, 80, 112)

refine = lpprop.refine
patches = lpprop.propagate_patches
pixels = lpprop.propagate_pixels


def spoilt(tensor, value, *place):
    """A copy of a tensor with one value that should not be there."""
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


def identity(logits, *, feats, image, attention, windows=None):
    return logits


def one_image(logits, *, feats, image, attention):
    return logits


def no_keywords(logits):
    return logits


def returns(value):
    """A method that returns a given value."""

    def method(logits, *, feats, image, attention):
        return value

    return method


# What many messages end with.
BROADCAST = "Nothing is broadcast: give every tensor its full size."
FINITE = "expected finite values. Find their source, or replace them with torch.nan_to_num."
AXES = "Add the missing axes with .unsqueeze(0), or drop the extra ones."
EMPTY = "expected no axis of size 0. Skip empty batches, images and class lists before the call."
STEP = (
    "expected callables step(logits, *, feats, image, attention). Pass modules, such as "
    "PatchPropagation(), results of presets, such as presets.lposs(), or functions of that form."
)
ARRAY = (
    "expected a torch.Tensor or a NumPy array. Convert it with numpy.asarray or torch.as_tensor."
)
BOXES = "Pass the logits of all windows of one image, in the order of the boxes."


# fmt: off
TABLE = {
    # tensors
    "no logits": (lambda: patches(None, FEATS),
        "logits: got None, expected a tensor. This method needs it: pass logits=."),
    "no feats": (lambda: patches(LOGITS, None),
        "feats: got None, expected a tensor. This method needs it: pass feats=."),
    "array for a tensor": (lambda: patches(LOGITS.numpy(), FEATS),
        "logits: got ndarray, expected a torch.Tensor (B, C, h, w). Convert it with "
        "torch.as_tensor, or call lpprop.refine, which also takes arrays."),
    "sparse logits": (lambda: patches(LOGITS.to_sparse(), FEATS),
        "logits: got a torch.sparse_coo tensor, expected a dense one. Use .to_dense()."),
    "integer logits": (lambda: patches(LOGITS.long(), FEATS),
        "logits: got dtype torch.int64, expected a floating-point dtype. Convert it to floating"
        " point."),
    "boolean feats": (lambda: patches(LOGITS, FEATS > 0),
        "feats: got dtype torch.bool, expected a floating-point dtype. Convert it to floating "
        "point."),
    "complex logits": (lambda: patches(LOGITS.to(torch.complex64), FEATS),
        "logits: got dtype torch.complex64, expected a floating-point dtype. Convert it to "
        "floating point."),
    "logits without batch": (lambda: patches(LOGITS[0], FEATS),
        "logits: got shape (3, 4, 5), expected 4 axes (B, C, h, w). " + AXES),
    "feats of five axes": (lambda: patches(LOGITS, FEATS[None]),
        "feats: got shape (1, 2, 8, 4, 5), expected 4 axes (B, D, h, w). " + AXES),
    "empty batch": (lambda: patches(LOGITS[:0], FEATS[:0]),
        "logits: got shape (0, 3, 4, 5), " + EMPTY),
    "no classes": (lambda: patches(LOGITS[:, :0], FEATS),
        "logits: got shape (2, 0, 4, 5), " + EMPTY),
    "empty grid": (lambda: patches(LOGITS[..., :0], FEATS[..., :0]),
        "logits: got shape (2, 3, 4, 0), " + EMPTY),
    "no feature channels": (lambda: patches(LOGITS, FEATS[:, :0]),
        "feats: got shape (2, 0, 4, 5), " + EMPTY),
    "feats of batch 1": (lambda: patches(LOGITS, FEATS[:1]),
        "feats: got shape (1, 8, 4, 5), expected (B=2, D, h=4, w=5), since logits has B=2. "
        + BROADCAST),
    "feats of one patch": (lambda: patches(LOGITS, FEATS[..., :1, :1]),
        "feats: got shape (2, 8, 1, 1), expected (B=2, D, h=4, w=5), since logits has h=4. "
        + BROADCAST),
    "feats on another grid": (lambda: patches(LOGITS, FEATS[..., :4]),
        "feats: got shape (2, 8, 4, 4), expected (B=2, D, h=4, w=5), since logits has w=5. "
        + BROADCAST),
    "feats transposed": (lambda: patches(LOGITS, FEATS.mT),
        "feats: got shape (2, 8, 5, 4), expected (B=2, D, h=4, w=5), since logits has h=4. "
        + BROADCAST),
    "image of batch 1": (lambda: pixels(FULL, IMAGE[:1]),
        "image: got shape (1, 3, 64, 80), expected (B=2, 3, H=64, W=80), since logits has B=2. "
        + BROADCAST),
    "image of another size": (lambda: pixels(FULL, IMAGE[..., :79]),
        "image: got shape (2, 3, 64, 79), expected (B=2, 3, H=64, W=80), since logits has W=80."
        " " + BROADCAST),
    "image of four channels": (lambda: pixels(FULL, torch.rand(2, 4, 64, 80)),
        "image: got shape (2, 4, 64, 80), expected (B=2, 3, H=64, W=80) by definition. "
        + BROADCAST),
    "grey image": (lambda: pixels(FULL, IMAGE[:, :1]),
        "image: got shape (2, 1, 64, 80), expected (B=2, 3, H=64, W=80) by definition. "
        + BROADCAST),
    "no image": (lambda: pixels(FULL, None),
        "image: got None, expected a tensor. This method needs it: pass image=."),
    "pixel_feats of batch 1": (lambda: pixels(FULL, None, pixel_feats=IMAGE[:1]),
        "pixel_feats: got shape (1, 3, 64, 80), expected (B=2, F, H=64, W=80), since logits has"
        " B=2. " + BROADCAST),
    "pixel_feats of another size": (lambda: pixels(FULL, IMAGE, pixel_feats=IMAGE[..., :-1, :]),
        "pixel_feats: got shape (2, 3, 63, 80), expected (B=2, F, H=64, W=80), since logits has"
        " H=64. " + BROADCAST),
    "another device": (lambda: patches(LOGITS, FEATS.to("meta")),
        "feats: got a tensor on meta, expected one on cpu, where logits is. Move it with "
        "feats.to('cpu')."),
    "NaN in logits": (lambda: patches(spoilt(LOGITS, math.nan, 1, 2, 3, 4), FEATS),
        "logits: got 1 NaN or infinite of 120 values, the first at (1, 2, 3, 4), " + FINITE),
    "infinite logits": (lambda: patches(spoilt(LOGITS, -math.inf, 0, 1), FEATS),
        "logits: got 20 NaN or infinite of 120 values, the first at (0, 1, 0, 0), " + FINITE),
    "NaN in feats": (lambda: patches(LOGITS, spoilt(FEATS, math.nan, 1, 0, 0, 2)),
        "feats: got 1 NaN or infinite of 320 values, the first at (1, 0, 0, 2), " + FINITE),
    "NaN in pixel_feats": (
        lambda: pixels(FULL, None, pixel_feats=spoilt(IMAGE, math.nan, 0, 0, 0, 0)),
        "pixel_feats: got 1 NaN or infinite of 30720 values, the first at (0, 0, 0, 0), "
        + FINITE),
    "NaN in image": (lambda: pixels(FULL, spoilt(IMAGE, math.nan, 1, 2, 63, 79)),
        "image: got 1 NaN or infinite of 30720 values, the first at (1, 2, 63, 79), " + FINITE),
    "image 0-255": (
        lambda: pixels(FULL, (255 * IMAGE).round().clamp(0, 255).index_fill(3,
        torch.tensor([0]), 255).index_fill(3, torch.tensor([1]), 0)),
        "image: got values from 0 to 255, expected RGB in [0, 1]. It looks like 0-255: divide "
        "by 255, or pass uint8 to lpprop.refine."),
    "image resampled": (
        lambda: pixels(FULL, IMAGE.clamp(0.1, 0.9).index_fill(3, torch.tensor([0]),
        -0.1).index_fill(3, torch.tensor([1]), 1.1)),
        "image: got values from -0.1 to 1.1, expected RGB in [0, 1]. It looks resampled, which "
        "overshoots at edges: clamp it with image.clamp(0, 1)."),
    "image normalised": (
        lambda: pixels(FULL, spoilt(spoilt(IMAGE, -2.118, 0, 0, 0, 0), 2.64, 0, 2, 0, 0)),
        "image: got values from -2.118 to 2.64, expected RGB in [0, 1]. It looks normalised: "
        "undo it with image * std + mean."),
    "Lab of 0-255": (lambda: lpprop.lab_features(torch.full((1, 3, 2, 2), 128.0)),
        "image: got values from 128 to 128, expected RGB in [0, 1]. It looks like 0-255: divide"
        " by 255, or pass uint8 to lpprop.refine."),
    "Lab of one channel": (lambda: lpprop.lab_features(torch.zeros(1, 1, 2, 2)),
        "image: got shape (1, 1, 2, 2), expected (B, 3, H, W) by definition. " + BROADCAST),
    # options of the functions
    "k zero": (lambda: patches(LOGITS, FEATS, k=0),
        "k: got 0, expected an integer >= 1. Change k."),
    "k a float": (lambda: patches(LOGITS, FEATS, k=400.0),
        "k: got 400.0, expected an integer >= 1. Change k."),
    "k a bool": (lambda: patches(LOGITS, FEATS, k=True),
        "k: got True, expected an integer >= 1. Change k."),
    "gamma zero": (lambda: patches(LOGITS, FEATS, gamma=0),
        "gamma: got 0, expected a number in (0, inf). Change gamma."),
    "gamma a string": (lambda: patches(LOGITS, FEATS, gamma="3"),
        "gamma: got '3', expected a number in (0, inf). Change gamma."),
    "gamma overflows": (lambda: patches(LOGITS, FEATS, gamma=10**400),
        f"gamma: got {10**400}, expected a number in (0, inf). Change gamma."),
    "sigma negative": (lambda: patches(LOGITS, FEATS, sigma=-0.01),
        "sigma: got -0.01, expected a number in [0, inf). Change sigma."),
    "sigma NaN": (lambda: patches(LOGITS, FEATS, sigma=math.nan),
        "sigma: got nan, expected a number in [0, inf). Change sigma."),
    "alpha one": (lambda: patches(LOGITS, FEATS, alpha=1),
        "alpha: got 1, expected a number in [0, 1). Change alpha."),
    "alpha negative": (lambda: patches(LOGITS, FEATS, alpha=-0.5),
        "alpha: got -0.5, expected a number in [0, 1). Change alpha."),
    "patch_size zero": (lambda: patches(LOGITS, FEATS, patch_size=0),
        "patch_size: got 0, expected a number in (0, 1e+09]. Change patch_size."),
    "patch_size a tuple": (lambda: patches(LOGITS, FEATS, patch_size=(16, 16)),
        "patch_size: got (16, 16), expected a number in (0, 1e+09]. Change patch_size."),
    "distance_power infinite": (lambda: patches(LOGITS, FEATS, distance_power=math.inf),
        "distance_power: got inf, expected a number in (0, inf). Change distance_power."),
    "appearance unknown": (lambda: patches(LOGITS, FEATS, appearance="exp"),
        "appearance: got 'exp', expected one of 'power', 'exponential'. Change appearance."),
    "sigma_a zero": (lambda: patches(LOGITS, FEATS, sigma_a=0.0),
        "sigma_a: got 0.0, expected a number in (0, inf). Change sigma_a."),
    "spatial unknown": (lambda: patches(LOGITS, FEATS, spatial=None),
        "spatial: got None, expected one of 'rbf', 'linear', 'none'. Change spatial."),
    "backend unknown": (lambda: patches(LOGITS, FEATS, backend="cuda"),
        "backend: got 'cuda', expected one of 'auto', 'dense', 'csr', 'torch-sparse'. Change "
        "backend."),
    "backend not installed": (lambda: patches(LOGITS, FEATS, backend="torch-sparse"),
        "backend: got 'torch-sparse', which is not installed, expected an installed one. Run "
        "pip install --no-build-isolation torch-scatter torch-sparse, or pass 'csr'."),
    "max_iter zero": (lambda: patches(LOGITS, FEATS, max_iter=0),
        "max_iter: got 0, expected an integer >= 1. Change max_iter."),
    "tol negative": (lambda: patches(LOGITS, FEATS, tol=-1e-6),
        "tol: got -1e-06, expected a number in [0, inf). Change tol."),
    "tau zero": (lambda: pixels(FULL, IMAGE, tau=0.0),
        "tau: got 0.0, expected a number in (0, inf). Change tau."),
    "r zero": (lambda: pixels(FULL, IMAGE, r=0),
        "r: got 0, expected an integer >= 1. Change r."),
    "r a float": (lambda: pixels(FULL, IMAGE, r=6.5),
        "r: got 6.5, expected an integer >= 1. Change r."),
    "pixel alpha one": (lambda: pixels(FULL, IMAGE, alpha=1.0),
        "alpha: got 1.0, expected a number in [0, 1). Change alpha."),
    "pixel sigma negative": (lambda: pixels(FULL, IMAGE, sigma=-1),
        "sigma: got -1, expected a number in [0, inf). Change sigma."),
    "pixel distance_power zero": (lambda: pixels(FULL, IMAGE, distance_power=0),
        "distance_power: got 0, expected a number in (0, inf). Change distance_power."),
    "pixel max_iter negative": (lambda: pixels(FULL, IMAGE, max_iter=-1),
        "max_iter: got -1, expected an integer >= 1. Change max_iter."),
    "pixel tol NaN": (lambda: pixels(FULL, IMAGE, tol=math.nan),
        "tol: got nan, expected a number in [0, inf). Change tol."),
    "module option": (lambda: lpprop.PatchPropagation(alpha=1),
        "alpha: got 1, expected a number in [0, 1). Change alpha."),
    "pixel module option": (lambda: lpprop.PixelPropagation(tau=-1),
        "tau: got -1, expected a number in (0, inf). Change tau."),
    "module option unknown": (lambda: lpprop.PatchPropagation(kk=5),
        "kk: got an option that PatchPropagation does not have, expected one of k, gamma, "
        "sigma, alpha, patch_size, distance_power, max_iter, tol, appearance, sigma_a, spatial,"
        " backend. Did you mean k?"),
    "pixel module option unknown": (lambda: lpprop.PixelPropagation(radius=5),
        "radius: got an option that PixelPropagation does not have, expected one of tau, r, "
        "alpha, max_iter, tol, sigma, distance_power. Remove radius."),
    "bilinear module option": (lambda: lpprop.BilinearUpsample(mode="nearest"),
        "mode: got an option that BilinearUpsample does not have, expected no option. Remove "
        "mode."),
    "cg tol": (lambda: cg(lambda x: x, torch.ones(2, 3), tol=-1),
        "tol: got -1, expected a number in [0, inf). Change tol."),
    "cg max_iter": (lambda: cg(lambda x: x, torch.ones(2, 3), max_iter=0),
        "max_iter: got 0, expected an integer >= 1. Change max_iter."),
    # the result
    "float16 overflow": (
        lambda: patches(torch.full((1, 1, 4, 4), 6e4).half(), torch.ones(1, 2, 4, 4)),
        "logits: got values up to 6e+04 in torch.float16, expected logits whose refined scores "
        "that dtype can hold. Scale the logits down, or pass them as float32."),
    "float32 overflow": (lambda: patches(torch.full((1, 1, 4, 4), 3e38), torch.ones(1, 2, 4, 4)),
        "logits: got values up to 3e+38 in torch.float32, expected logits whose refined scores "
        "that dtype can hold. Scale the logits down."),
    # windows
    "boxes of another kind": (lambda: patches(LOGITS, FEATS, windows=[[0, 64, 0, 80]] * 2),
        "windows: got list, expected SlidingWindows or a tensor of boxes (n, 4). Convert boxes "
        "with torch.as_tensor."),
    "boxes of another number": (lambda: patches(LOGITS, FEATS, windows=torch.zeros(3, 4)),
        "windows: got boxes of shape (3, 4), expected (2, 4), one box for each of the 2 items "
        "of logits. " + BOXES),
    "boxes of three numbers": (lambda: patches(LOGITS, FEATS, windows=torch.zeros(2, 3)),
        "windows: got boxes of shape (2, 3), expected (2, 4), one box for each of the 2 items "
        "of logits. " + BOXES),
    "boxes inside out": (
        lambda: patches(LOGITS, FEATS, windows=torch.tensor([[0, 64, 0, 80], [64, 0, 0, 80]])),
        "windows: got a box that ends before it begins, expected rows y1, y2, x1, x2 with y1 < "
        "y2 and x1 < x2. Check the order of the columns."),
    "boxes with NaN": (lambda: patches(LOGITS, FEATS, windows=torch.full((2, 4), math.nan)),
        "windows: got 8 NaN or infinite of 8 values, the first at (0, 0), " + FINITE),
    "windows of another number": (lambda: patches(LOGITS, FEATS, windows=WINDOWS),
        "windows: got boxes of shape (6, 4), expected (2, 4), one box for each of the 2 items "
        "of logits. " + BOXES),
    "image_size one number": (lambda: lpprop.SlidingWindows(224),
        "image_size: got 224, expected a pair (H, W). Pass image_size=(height, width)."),
    "image_size three numbers": (lambda: lpprop.SlidingWindows((3, 224, 224)),
        "image_size: got (3, 224, 224), expected a pair (H, W). Pass image_size=(height, "
        "width)."),
    "image_size zero": (lambda: lpprop.SlidingWindows((0, 224)),
        "image_size[0]: got 0, expected an integer >= 1. Change image_size[0]."),
    "image_size too large": (lambda: lpprop.SlidingWindows((2**16, 2**16)),
        "image_size: got 65536 x 65536 pixels, expected fewer than 2**31. Work on tiles of the "
        "image."),
    "window zero": (lambda: lpprop.SlidingWindows((224, 224), 0),
        "window: got 0, expected an integer >= 1. Change window."),
    "window a tuple": (lambda: lpprop.SlidingWindows((224, 224), (224, 224)),
        "window: got (224, 224), expected an integer >= 1. Change window."),
    "stride zero": (lambda: lpprop.SlidingWindows((224, 224), 112, 0),
        "stride: got 0, expected an integer >= 1. Change stride."),
    "too many windows": (lambda: lpprop.SlidingWindows((3000, 3000), 224, 1),
        "stride: got 1, which makes 7711729 windows, expected at most 100000 windows. Take a "
        "larger stride, or a smaller image."),
    "stride above window": (lambda: lpprop.SlidingWindows((448, 448), 112, 224),
        "stride: got 224, expected at most window = 112. A larger stride leaves pixels that no "
        "window covers."),
    "split another size": (lambda: WINDOWS.split(torch.rand(1, 3, 112, 80)),
        "image: got 112 x 80 pixels, expected 80 x 112. Make the SlidingWindows with this "
        "image's size."),
    "split a batch": (lambda: WINDOWS.split(IMAGE),
        "image: got shape (2, 3, 64, 80), expected (1, F, H, W) by definition. " + BROADCAST),
    "merge another number": (lambda: WINDOWS.merge(LOGITS),
        "scores: got 2 items, expected 6, one a window. Pass the scores of all windows of this "
        "image, in the order of boxes."),
    "merge three axes": (lambda: WINDOWS.merge(LOGITS[0]),
        "scores: got shape (3, 4, 5), expected 4 axes (n, C, h, w). " + AXES),
    "merge NaN": (lambda: WINDOWS.merge(spoilt(CROPS[0], math.nan, 5, 0, 0, 0)),
        "scores: got 1 NaN or infinite of 288 values, the first at (5, 0, 0, 0), " + FINITE),
    # upsampling and classes
    "upsample three axes": (lambda: lpprop.bilinear_upsample(LOGITS[0], (8, 8)),
        "x: got shape (3, 4, 5), expected 4 axes (B, C, h, w). " + AXES),
    "upsample to a string": (lambda: lpprop.bilinear_upsample(LOGITS, "88"),
        "size[0]: got '8', expected an integer >= 1. Change size[0]."),
    "upsample to one number": (lambda: lpprop.bilinear_upsample(LOGITS, 8),
        "size: got 8, expected a pair (H, W). Pass size=(height, width)."),
    "upsample to zero": (lambda: lpprop.bilinear_upsample(LOGITS, (8, 0)),
        "size[1]: got 0, expected an integer >= 1. Change size[1]."),
    "upsample to a float": (lambda: lpprop.bilinear_upsample(LOGITS, (8, 8.0)),
        "size[1]: got 8.0, expected an integer >= 1. Change size[1]."),
    "upsample too far": (lambda: lpprop.bilinear_upsample(LOGITS, (2**31, 1)),
        "size: got 2147483648 x 1 pixels, expected fewer than 2**31. Work on tiles of the "
        "image."),
    "merge_classes of an array": (lambda: lpprop.merge_classes(LOGITS.numpy(), [[0]]),
        "scores: got ndarray, expected a tensor (B, Q, ...) without empty axes. Give it a batch"
        " axis and a prompt axis."),
    "merge_classes of one axis": (lambda: lpprop.merge_classes(LOGITS[0, :, 0, 0], [[0]]),
        "scores: got (3,), expected a tensor (B, Q, ...) without empty axes. Give it a batch "
        "axis and a prompt axis."),
    "merge_classes of no items": (lambda: lpprop.merge_classes(LOGITS[:0], [[0]]),
        "scores: got (0, 3, 4, 5), expected a tensor (B, Q, ...) without empty axes. Give it a "
        "batch axis and a prompt axis."),
    "merge_classes of NaN": (
        lambda: lpprop.merge_classes(spoilt(LOGITS, math.nan, 0, 0, 0, 0), [[0]]),
        "scores: got 1 NaN or infinite of 120 values, the first at (0, 0, 0, 0), " + FINITE),
    "no groups": (lambda: lpprop.merge_classes(LOGITS, []),
        "groups: got [], expected at least one class. List the prompts of each class, such as "
        "[[0, 1], [2]]."),
    "groups a number": (lambda: lpprop.merge_classes(LOGITS, 3),
        "groups: got 3, expected at least one class. List the prompts of each class, such as "
        "[[0, 1], [2]]."),
    "group empty": (lambda: lpprop.merge_classes(LOGITS, [[0], []]),
        "groups[1]: got [], expected one or more prompt indices from 0 to 2. List the prompts "
        "of each class, such as [[0, 1], [2]]."),
    "group a number": (lambda: lpprop.merge_classes(LOGITS, [0, 1]),
        "groups[0]: got 0, expected one or more prompt indices from 0 to 2. List the prompts of"
        " each class, such as [[0, 1], [2]]."),
    "group out of range": (lambda: lpprop.merge_classes(LOGITS, [[0, 1], [3]]),
        "groups[1]: got [3], expected one or more prompt indices from 0 to 2. List the prompts "
        "of each class, such as [[0, 1], [2]]."),
    "group negative": (lambda: lpprop.merge_classes(LOGITS, [[-1]]),
        "groups[0]: got [-1], expected one or more prompt indices from 0 to 2. List the prompts"
        " of each class, such as [[0, 1], [2]]."),
    "group of names": (lambda: lpprop.merge_classes(LOGITS, ["cat"]),
        "groups[0]: got 'cat', expected one or more prompt indices from 0 to 2. List the "
        "prompts of each class, such as [[0, 1], [2]]."),
    # chains
    "no steps": (lambda: lpprop.Chain(),
        "steps: got none, expected at least one. Add a step."),
    "step not callable": (lambda: lpprop.Chain(lpprop.PatchPropagation(), 3),
        "steps: got 3 (it is not callable), " + STEP),
    "step a class": (lambda: lpprop.Chain(lpprop.PatchPropagation),
        "steps: got <class 'lpprop.label_propagation.PatchPropagation'> (too many positional "
        "arguments), " + STEP),
    "step a preset": (lambda: lpprop.Chain(lpprop.presets.lposs),
        "steps: got <function lposs at 0x...> (too many positional arguments), " + STEP),
    "step of another form": (lambda: lpprop.Chain(no_keywords),
        "steps: got <function no_keywords at 0x...> (got an unexpected keyword argument "
        "'feats'), " + STEP),
    "chain without feats": (lambda: lpprop.presets.lposs()(LOGITS, image=IMAGE),
        "feats: got None, expected a tensor. This method needs it: pass feats=."),
    "chain without image": (lambda: lpprop.presets.lposs_plus()(LOGITS, feats=FEATS),
        "image: got None, expected a tensor. This method needs it: pass image=."),
    "chain with boxes": (
        lambda: lpprop.presets.lposs()(*CROPS[:1], feats=CROPS[1], windows=WINDOWS.boxes),
        "windows: got Tensor, expected lpprop.SlidingWindows. Make them with SlidingWindows((H,"
        " W), window, stride)."),
    "chain with windows for one image": (
        lambda: lpprop.Chain(one_image, lpprop.BilinearUpsample())(CROPS[0], windows=WINDOWS),
        "windows: got sliding windows, expected None, since one_image works on one image. Put "
        "BilinearUpsample() before it, give it a keyword windows=, or call it on "
        "windows.merge(logits)."),
    "chain with pixel_feats for none": (
        lambda: lpprop.presets.lposs()(LOGITS, feats=FEATS, pixel_feats=IMAGE),
        "pixel_feats: got a tensor, expected None, since no step of this method compares pixels"
        " by features. Use a method with a pixel step, such as 'lposs+'."),
    "chain with feats of batch 1": (lambda: lpprop.presets.lposs()(LOGITS, feats=FEATS[:1]),
        "feats: got shape (1, 8, 4, 5), expected (B=2, D, h', w'), since logits has B=2. "
        + BROADCAST),
    "step returns nothing": (lambda: lpprop.Chain(returns(None))(LOGITS),
        "method returned unusable scores: got None, expected a tensor. This method needs it: "
        "pass scores=."),
    "step returns three axes": (lambda: lpprop.Chain(returns(LOGITS[0]))(LOGITS),
        "method returned unusable scores: got shape (3, 4, 5), expected 4 axes (B, C, h, w). "
        + AXES),
    "step returns NaN": (
        lambda: lpprop.Chain(returns(torch.full((2, 3, 1, 1), math.nan)))(LOGITS),
        "method returned unusable scores: got 6 NaN or infinite of 6 values, the first at (0, "
        "0, 0, 0), " + FINITE),
    "step returns another batch": (lambda: lpprop.Chain(returns(LOGITS[:1]))(LOGITS),
        "method returned scores: got 1 items, expected 2. A step returns one item for each that"
        " it is given."),
    "step returns an array": (lambda: lpprop.Chain(returns(LOGITS.numpy()))(LOGITS),
        "method returned unusable scores: got ndarray, expected a torch.Tensor (B, C, h, w). "
        "Convert it with torch.as_tensor, or call lpprop.refine, which also takes arrays."),
    # presets
    "method unknown": (lambda: lpprop.presets.by_name("crf"),
        "method: got 'crf', expected one of 'lposs', 'lposs+', a module or a callable. Change "
        "method."),
    "method mistyped": (lambda: lpprop.presets.by_name("LPOSS +"),
        "method: got 'LPOSS +', expected one of 'lposs', 'lposs+', a module or a callable. Did "
        "you mean 'lposs+'?"),
    "backbone unknown": (lambda: lpprop.presets.lposs(backbone="dinov3"),
        "backbone: got 'dinov3', expected one of 'vit-b/16', 'vit-b/8', 'dinov2'. Change "
        "backbone."),
    "preset option mistyped": (lambda: lpprop.presets.lposs(gama=2.0),
        "gama: got an option that lposs does not have, expected one of backbone, k, gamma, "
        "sigma, alpha, patch_size, distance_power, max_iter, tol, appearance, sigma_a, spatial,"
        " backend. Did you mean gamma?"),
    "preset option of another": (lambda: lpprop.presets.lposs(tau=0.1),
        "tau: got an option that lposs does not have, expected one of backbone, k, gamma, "
        "sigma, alpha, patch_size, distance_power, max_iter, tol, appearance, sigma_a, spatial,"
        " backend. Remove tau."),
    "lposs+ option mistyped": (lambda: lpprop.presets.lposs_plus(taw=0.1),
        "taw: got an option that lposs_plus does not have, expected one of backbone, tau, r, k,"
        " gamma, sigma, alpha, patch_size, distance_power, max_iter, tol, appearance, sigma_a, "
        "spatial, backend. Did you mean tau?"),
    "preset option out of range": (lambda: lpprop.presets.lposs(k=0),
        "k: got 0, expected an integer >= 1. Change k."),
    # refine: kinds of input
    "logits a list": (lambda: refine([[1.0]], FEATS, IMAGE),
        "logits: got list, " + ARRAY),
    "logits a string": (lambda: refine("logits.npy", FEATS, IMAGE),
        "logits: got str, " + ARRAY),
    "logits of objects": (lambda: refine(np.array([[[None]]]), FEATS, IMAGE),
        "logits: got dtype object, expected numbers that torch has. Convert it with .astype."),
    "logits of strings": (lambda: refine(np.array([[["cat"]]]), FEATS, IMAGE),
        "logits: got dtype <U3, expected numbers that torch has. Convert it with .astype."),
    "logits of integers": (lambda: refine(LOGITS.numpy().astype(int), FEATS, IMAGE),
        "logits: got dtype torch.int64, expected a floating-point dtype. Convert it to floating"
        " point."),
    "logits of two axes": (lambda: refine(LOGITS[0, 0], FEATS, IMAGE),
        "logits: got shape (4, 5), expected 4 axes (B, C, h, w). " + AXES),
    "feats a PIL image": (lambda: refine(LOGITS, Image.new("RGB", (5, 4)), IMAGE),
        "feats: got Image, " + ARRAY),
    "attention a string": (lambda: refine(LOGITS, size=(8, 8), attention="maps", method=identity),
        "attention: got str, " + ARRAY),
    "image a file name": (lambda: refine(LOGITS, FEATS, "cat.jpg"),
        "image: got str, " + ARRAY),
    "image of 16 bits": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((64, 80, 3), np.uint16)),
        "image: got dtype torch.uint16, expected uint8, or floats in [0, 1]. Convert it: uint8 "
        "for 0-255, or divide by its largest possible value."),
    "image of booleans": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((64, 80, 3), bool)),
        "image: got dtype torch.bool, expected uint8, or floats in [0, 1]. Convert it: uint8 "
        "for 0-255, or divide by its largest possible value."),
    "image of 64-bit integers": (lambda: refine(LOGITS, FEATS, (255 * IMAGE).long()),
        "image: got dtype torch.int64, expected uint8, or floats in [0, 1]. Convert it: uint8 "
        "for 0-255, or divide by its largest possible value."),
    "image of two axes": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((64, 80), np.uint8)),
        "image: got shape (64, 80), expected (3, H, W) or (H, W, 3), or a batch of them. Give "
        "it three colour channels: repeat a grey one, drop alpha."),
    "image with alpha": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((64, 80, 4), np.uint8)),
        "image: got shape (64, 80, 4), expected (3, H, W) or (H, W, 3), or a batch of them. "
        "Give it three colour channels: repeat a grey one, drop alpha."),
    "image of five axes": (lambda: refine(LOGITS, FEATS, IMAGE[None]),
        "image: got shape (1, 2, 3, 64, 80), expected (3, H, W) or (H, W, 3), or a batch of "
        "them. Give it three colour channels: repeat a grey one, drop alpha."),
    "image read both ways": (
        lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((3, 80, 3), np.uint8)),
        "image: got an array of shape (3, 80, 3), which can be read both ways, expected "
        "channels first or last, not both of size 3. Pass a torch tensor (B, 3, H, W)."),
    "PIL image of 16 bits": (lambda: refine(LOGITS[:1], FEATS[:1], Image.new("I;16", (80, 64))),
        "image: got a PIL image of mode 'I;16', expected 8 bits a channel. Scale it to 0-255 "
        "and convert it to mode 'RGB'."),
    "PIL image of floats": (lambda: refine(LOGITS[:1], FEATS[:1], Image.new("F", (80, 64))),
        "image: got a PIL image of mode 'F', expected 8 bits a channel. Scale it to 0-255 and "
        "convert it to mode 'RGB'."),
    # refine: everything against everything
    "refine feats of batch 1": (lambda: refine(LOGITS, FEATS[:1], IMAGE),
        "feats: got shape (1, 8, 4, 5), expected (B=2, D, h', w'), since logits has B=2. "
        + BROADCAST),
    "refine image of batch 1": (lambda: refine(LOGITS, FEATS, IMAGE[:1]),
        "image: got shape (1, 3, 64, 80), expected (B=2, 3, H, W), since logits has B=2. "
        + BROADCAST),
    "refine one PIL image for two": (lambda: refine(LOGITS, FEATS, Image.new("RGB", (80, 64))),
        "image: got shape (1, 3, 64, 80), expected (B=2, 3, H, W), since logits has B=2. "
        + BROADCAST),
    "refine attention not square": (
        lambda: refine(LOGITS, size=(8, 8), attention=torch.rand(2, 20, 19), method=identity),
        "attention: got shape (2, 20, 19), expected (B=2, N, N), since attention has N=20. "
        + BROADCAST),
    "refine attention of batch 1": (
        lambda: refine(LOGITS, size=(8, 8), attention=torch.rand(20, 20), method=identity),
        "attention: got shape (1, 20, 20), expected (B=2, N, N), since logits has B=2. "
        + BROADCAST),
    "refine heads of batch 1": (
        lambda: refine(LOGITS, size=(8, 8), attention=torch.rand(1, 4, 20, 20),
        method=identity),
        "attention: got shape (1, 4, 20, 20), expected (B=2, heads, N, N), since logits has "
        "B=2. " + BROADCAST),
    "refine NaN in attention": (
        lambda: refine(LOGITS, size=(8, 8), attention=torch.full((2, 20, 20), math.nan),
        method=identity),
        "attention: got 800 NaN or infinite of 800 values, the first at (0, 0, 0), " + FINITE),
    "refine pixel_feats of another size": (
        lambda: refine(LOGITS, FEATS, IMAGE, pixel_feats=torch.rand(2, 1, 64, 79)),
        "pixel_feats: got shape (2, 1, 64, 79), expected (B=2, F, H=64, W=80), since image has "
        "W=80. " + BROADCAST),
    "refine NaN in logits": (lambda: refine(LOGITS / 0 * 0, FEATS, IMAGE),
        "logits: got 120 NaN or infinite of 120 values, the first at (0, 0, 0, 0), " + FINITE),
    "refine infinite feats": (
        lambda: refine(LOGITS, spoilt(FEATS, math.inf, 1, 7, 3, 4).numpy(), IMAGE),
        "feats: got 1 NaN or infinite of 320 values, the first at (1, 7, 3, 4), " + FINITE),
    "refine NaN in image": (lambda: refine(LOGITS, FEATS, spoilt(IMAGE, math.nan, 0, 0, 0, 0)),
        "image: got 1 NaN or infinite of 30720 values, the first at (0, 0, 0, 0), " + FINITE),
    "refine floats 0-255": (
        lambda: refine(LOGITS[:1], FEATS[:1], np.linspace(0, 255, 64 * 80 * 3).reshape(64, 80,
        3)),
        "image: got values from 0 to 255, expected RGB in [0, 1]. It looks like 0-255: divide "
        "by 255, or pass uint8 to lpprop.refine."),
    "refine image normalised": (
        lambda: refine(LOGITS, FEATS, IMAGE.clamp(0.1, 0.9).index_fill(3, torch.tensor([0]),
        -1.5).index_fill(3, torch.tensor([1]), 2.0)),
        "image: got values from -1.5 to 2, expected RGB in [0, 1]. It looks normalised: undo it"
        " with image * std + mean."),
    "refine without feats": (lambda: refine(LOGITS, None, IMAGE),
        "feats: got None, expected a tensor. This method needs it: pass feats=."),
    "refine without image": (lambda: refine(LOGITS, FEATS, size=(64, 80)),
        "image: got None, expected a tensor. This method needs it: pass image=."),
    "refine without image and size": (lambda: refine(LOGITS, FEATS, method="lposs"),
        "image: got None, and no size, expected an image, or the size of the result. Pass "
        "image=, or size=(H, W)."),
    "refine pixel_feats for none": (
        lambda: refine(LOGITS, FEATS, IMAGE, pixel_feats=IMAGE, method="lposs"),
        "pixel_feats: got a tensor, expected None, since no step of this method compares pixels"
        " by features. Use a method with a pixel step, such as 'lposs+'."),
    "refine size one number": (lambda: refine(LOGITS, FEATS, IMAGE, size=64),
        "size: got 64, expected a pair (H, W). Pass size=(height, width)."),
    "refine size of floats": (lambda: refine(LOGITS, FEATS, IMAGE, size=(64.0, 80.0)),
        "size[0]: got 64.0, expected an integer >= 1. Change size[0]."),
    "refine size zero": (lambda: refine(LOGITS, FEATS, IMAGE, size=(0, 80)),
        "size[0]: got 0, expected an integer >= 1. Change size[0]."),
    "refine size too large": (lambda: refine(LOGITS, FEATS, IMAGE, size=(50_000, 50_000)),
        "size: got 50000 x 50000 pixels, expected fewer than 2**31. Work on tiles of the image."),
    "refine patches not square": (
        lambda: refine(LOGITS, FEATS, torch.rand(2, 3, 64, 200), method="lposs"),
        "feats: got a grid of 4 x 5 patches for 64 x 200 pixels, expected patches that are "
        "square in the image. Pass the image as the backbone saw it (after its resizing or "
        "cropping), and size= for the size that the scores should have."),
    # refine: methods and options
    "refine no method": (lambda: refine(LOGITS, FEATS, IMAGE, method=None),
        "method: got None, expected a preset's name, a module or a callable. Names are 'lposs',"
        " 'lposs+'."),
    "refine method mistyped": (lambda: refine(LOGITS, FEATS, IMAGE, method="lpos"),
        "method: got 'lpos', expected one of 'lposs', 'lposs+', a module or a callable. Did you"
        " mean 'lposs'?"),
    "refine method a class": (
        lambda: refine(LOGITS, FEATS, IMAGE, method=lpprop.PatchPropagation),
        "steps: got <class 'lpprop.label_propagation.PatchPropagation'> (too many positional "
        "arguments), " + STEP),
    "refine method a preset": (lambda: refine(LOGITS, FEATS, IMAGE, method=lpprop.presets.lposs),
        "steps: got <function lposs at 0x...> (too many positional arguments), " + STEP),
    "refine method of another form": (lambda: refine(LOGITS, FEATS, IMAGE, method=no_keywords),
        "steps: got <function no_keywords at 0x...> (got an unexpected keyword argument "
        "'feats'), " + STEP),
    "refine options beside a module": (
        lambda: refine(LOGITS, FEATS, IMAGE, method=lpprop.presets.lposs(), k=5, tau=0.1),
        "k, tau: got options beside a method that is configured already, expected none. "
        "Configure the module itself, or pass a preset's name as method."),
    "refine option mistyped": (lambda: refine(LOGITS, FEATS, IMAGE, gama=2.0),
        "gama: got an option that lposs_plus does not have, expected one of backbone, tau, r, "
        "k, gamma, sigma, alpha, patch_size, distance_power, max_iter, tol, appearance, "
        "sigma_a, spatial, backend. Did you mean gamma?"),
    "refine option unknown": (lambda: refine(LOGITS, FEATS, IMAGE, epsilon=0.1),
        "epsilon: got an option that lposs_plus does not have, expected one of backbone, tau, "
        "r, k, gamma, sigma, alpha, patch_size, distance_power, max_iter, tol, appearance, "
        "sigma_a, spatial, backend. Remove epsilon."),
    "refine patch_size zero": (lambda: refine(LOGITS, FEATS, IMAGE, patch_size=0),
        "patch_size: got 0, expected a number in (0, 1e+09]. Change patch_size."),
    "refine patch_size NaN": (lambda: refine(LOGITS, FEATS, IMAGE, patch_size=math.nan),
        "patch_size: got nan, expected a number in (0, 1e+09]. Change patch_size."),
    "refine patch_size a string": (lambda: refine(LOGITS, FEATS, IMAGE, patch_size="16"),
        "patch_size: got '16', expected a number in (0, 1e+09]. Change patch_size."),
    "refine tau negative": (lambda: refine(LOGITS, FEATS, IMAGE, tau=-1),
        "tau: got -1, expected a number in (0, inf). Change tau."),
    "refine r zero": (lambda: refine(LOGITS, FEATS, IMAGE, r=0),
        "r: got 0, expected an integer >= 1. Change r."),
    "refine method returns another batch": (
        lambda: refine(LOGITS, FEATS, IMAGE, method=returns(LOGITS[:1])),
        "method returned scores: got 1 items, expected 2. A step returns one item for each that"
        " it is given."),
    "refine method returns nothing": (lambda: refine(LOGITS, FEATS, IMAGE, method=returns(None)),
        "method returned unusable scores: got None, expected a tensor. This method needs it: "
        "pass scores=."),
    # refine: windows
    "refine windows of another image": (
        lambda: refine(*CROPS, torch.rand(1, 3, 112, 80), windows=WINDOWS),
        "windows: got windows of a 80 x 112 image, expected windows of this one, 112 x 80. Make"
        " the SlidingWindows with this image's size."),
    "refine windows of another number": (lambda: refine(LOGITS, FEATS, WIDE, windows=WINDOWS),
        "logits: got 2 items, expected 6, one a window. Pass the logits of all windows of one "
        "image, in the order of windows.boxes."),
    "refine windows of a batch of images": (
        lambda: refine(*CROPS, WIDE.repeat(6, 1, 1, 1), windows=WINDOWS),
        "image: got shape (6, 3, 80, 112), expected (1, 3, H, W) by definition. " + BROADCAST),
    "refine windows and crops for image": (
        lambda: refine(*CROPS, torch.rand(6, 3, 64, 64), windows=WINDOWS),
        "image: got shape (6, 3, 64, 64), expected (1, 3, H, W) by definition. " + BROADCAST),
    "refine windows a number": (lambda: refine(*CROPS, WIDE, windows=224),
        "windows: got int, expected SlidingWindows, or a list of them. Make them with "
        "SlidingWindows((H, W), window, stride)."),
    "refine windows as boxes": (lambda: refine(*CROPS, WIDE, windows=WINDOWS.boxes),
        "windows: got Tensor, expected SlidingWindows, or a list of them. Make them with "
        "SlidingWindows((H, W), window, stride)."),
    "refine windows a pair": (lambda: refine(*CROPS, WIDE, windows=(64, 32)),
        "windows: got (64, 32), expected SlidingWindows, or a list of them. Make them with "
        "SlidingWindows((H, W), window, stride)."),
    "refine windows an empty list": (lambda: refine([], [], WIDE, windows=[]),
        "windows: got list, expected SlidingWindows, or a list of them. Make them with "
        "SlidingWindows((H, W), window, stride)."),
    "refine windows for one image": (
        lambda: refine(*CROPS, WIDE, windows=WINDOWS, method=one_image),
        "windows: got sliding windows, expected None, since one_image works on one image. Put "
        "BilinearUpsample() before it, give it a keyword windows=, or call it on "
        "windows.merge(logits)."),
    "ensemble with one array of logits": (
        lambda: refine(CROPS[0], [CROPS[1]], WIDE, windows=[WINDOWS]),
        "logits: got Tensor, expected a list of 1, one for each of windows. Pass lists of equal"
        " length: logits=[small, large], feats=[...]."),
    "ensemble with one list too short": (
        lambda: refine([CROPS[0]] * 2, [CROPS[1]], WIDE, windows=[WINDOWS] * 2),
        "feats: got a list of 1, expected a list of 2, one for each of windows. Pass lists of "
        "equal length: logits=[small, large], feats=[...]."),
    "ensemble with a bad last item": (
        lambda: refine([CROPS[0]] * 2, [CROPS[1], CROPS[1][:5]], WIDE, windows=[WINDOWS] * 2),
        "feats: got shape (5, 8, 4, 4), expected (B=6, D, h', w'), since logits has B=6. "
        + BROADCAST),
}
# fmt: on

# They can be known only once the work is done.
AFTERWARDS = {name for name in TABLE if "overflow" in name and "gamma" not in name}

# What propagation and upsampling cannot do without, and checks do not use.
WORK = {
    "addcmul",
    "addmm",
    "bmm",
    "exp",
    "exp_",
    "index_add",
    "linalg_vector_norm",
    "mm",
    "pow",
    "scatter",
    "topk",
    "upsample_bilinear2d",
}


class Watch(TorchDispatchMode):
    """Notes the work that is done inside it."""

    def __init__(self):
        super().__init__()
        self.work = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WORK:
            self.work.add(name)
        return function(*args, **kwargs or {})


def caught(call):
    """The InputError of a call, and the work that was done before it."""
    with Watch() as watch, pytest.raises(lpprop.InputError) as error:
        call()
    return error.value, watch.work


@pytest.fixture(autouse=True)
def without_torch_sparse(monkeypatch):
    monkeypatch.setattr("lpprop.kernels.torch_sparse.is_installed", lambda: False)


@pytest.mark.parametrize("name", TABLE)
def test_the_message_and_that_it_comes_first(name):
    call, message = TABLE[name]
    error, work = caught(call)
    assert re.sub(r"0x[0-9a-fA-F]+", "0x...", str(error)) == message
    # Argument, what came, what was expected; and a sentence that says what to do.
    assert re.fullmatch(r"[^:]+: got .+, expected .+\. [A-Z].+[.?]", message, re.DOTALL)
    assert isinstance(error, ValueError)
    assert not work or name in AFTERWARDS


@pytest.mark.parametrize(
    "call",
    [
        lambda: refine(LOGITS, FEATS, IMAGE),
        lambda: patches(LOGITS, FEATS, backend="csr"),
        lambda: pixels(FULL, IMAGE),
        lambda: WINDOWS.merge(CROPS[0]),
        lambda: lpprop.bilinear_upsample(LOGITS, (8, 8)),
    ],
)
def test_work_would_be_noticed(call):
    with Watch() as watch:
        call()
    assert watch.work


REFUSED = {
    "feats of batch 1": {"feats": FEATS[:1]},
    "feats of one patch, batch 1": {"feats": FEATS[:1, :, :1, :1]},
    "NaN in logits": {"logits": spoilt(LOGITS, math.nan, 1, 0, 0, 0)},
    "infinite feats": {"feats": spoilt(FEATS, math.inf, 1, 0, 0, 0)},
    "NaN in attention": {"attention": torch.full((2, 20, 20), math.nan)},
    "image 0-255": {"image": 255 * IMAGE},
    "image of batch 1": {"image": IMAGE[:1]},
    "grey image": {"image": IMAGE[:, :1]},
    "size": {"size": (0, 8)},
    "pixel_feats": {"pixel_feats": IMAGE},
    "windows": {"windows": WINDOWS},
    "patches not square": {"image": torch.rand(2, 3, 64, 200)},
    "no feats": {"feats": None},
    "a bad ensemble": {
        "logits": [CROPS[0]] * 2,
        "feats": [CROPS[1], CROPS[1][:5]],
        "image": None,
        "windows": [WINDOWS] * 2,
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_step_is_called_before_all_inputs_are_checked(name):
    calls = []

    def count(logits, *, feats, image, attention, windows=None):
        calls.append(logits)
        return logits

    method = lpprop.Chain(count, lpprop.PatchPropagation())
    given = {"logits": LOGITS, "feats": FEATS, "image": IMAGE, "method": method} | REFUSED[name]
    with pytest.raises(lpprop.InputError):
        refine(**given)
    assert not calls


def test_the_error_shows_the_callers_traceback_first():
    error, _ = caught(lambda: refine(LOGITS, FEATS[:1], IMAGE))
    frames = traceback.extract_tb(error.__traceback__)
    assert any(frame.filename == __file__ for frame in frames)
    assert error.__cause__ is None


def raising_lines():
    """Where the sources raise, as (file, first line, last line), but for errors caught inside."""
    for module in MODULES:
        path = SOURCE / f"{module}.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and "TypeError" not in ast.unparse(node):
                yield path.name, node.lineno, node.end_lineno


def test_every_raise_has_a_row():
    reached = set()
    for call, _ in TABLE.values():
        error, _ = caught(call)
        last = traceback.extract_tb(error.__traceback__)[-1]
        reached.add((Path(last.filename).name, last.lineno))
    missed = [
        f"{name}:{first}"
        for name, first, last in raising_lines()
        if not any((name, line) in reached for line in range(first, last + 1))
    ]
    assert not missed
