"""`lpprop.refine`: kinds of input, inputs that do not fit together, methods, windows."""

import math

import numpy as np
import torch
from PIL import Image

import lpprop
from error_tables.samples import (
    ARRAY,
    AXES,
    BROADCAST,
    CROPS,
    FEATS,
    FINITE,
    IMAGE,
    LOGITS,
    METHODS,
    STEP,
    WIDE,
    WINDOWS,
    identity,
    no_keywords,
    one_image,
    returns,
    spoilt,
)

refine = lpprop.refine

# fmt: off
TABLE = {
    "prune with several windows": (
        lambda: lpprop.refine([CROPS[0]] * 2, [CROPS[1]] * 2, WIDE, windows=[WINDOWS] * 2,
                              prune=True),
        "prune: got True, with a list of windows, expected one setting of windows. Leave it out: a "
        "class that one setting leaves out would lose in the average."),
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
        "method: got None, expected a preset's name, a module or a callable. Names are "
        + METHODS + "."),
    "refine method mistyped": (lambda: refine(LOGITS, FEATS, IMAGE, method="lpos"),
        "method: got 'lpos', expected one of " + METHODS
        + ", a module or a callable. Did you mean 'lposs'?"),
    "refine method a class": (
        lambda: refine(LOGITS, FEATS, IMAGE, method=lpprop.PatchPropagation),
        "steps: got <class 'lpprop.refiners._patch_propagation.PatchPropagation'> "
        "(too many positional arguments), " + STEP),
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
        "prune, pixel_backend, k, gamma, sigma, alpha, patch_size, distance_power, max_iter, "
        "tol, appearance, sigma_a, spatial, backend. Did you mean gamma?"),
    "refine option unknown": (lambda: refine(LOGITS, FEATS, IMAGE, epsilon=0.1),
        "epsilon: got an option that lposs_plus does not have, expected one of backbone, tau, "
        "r, prune, pixel_backend, k, gamma, sigma, alpha, patch_size, distance_power, "
        "max_iter, tol, appearance, sigma_a, spatial, backend. Remove epsilon."),
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
        "windows: got sliding windows, expected None, since one_image works on one image. "
        "Refine whole images with this method. In a chain of your own, put BilinearUpsample() "
        "before a step on pixels, or give yours a keyword windows=."),
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
