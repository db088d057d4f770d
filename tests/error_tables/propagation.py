"""Label propagation, windows, upsampling, classes, chains and presets."""

import math

import torch

import lpprop
from error_tables.samples import (
    AXES,
    BOXES,
    BROADCAST,
    CROPS,
    EMPTY,
    FEATS,
    FINITE,
    FULL,
    IMAGE,
    LOGITS,
    METHODS,
    STEP,
    WINDOWS,
    no_keywords,
    one_image,
    returns,
    spoilt,
)
from lpprop.kernels.dispatch import kernels_for
from lpprop.numerics.cg import cg

patches = lpprop.propagate_patches
pixels = lpprop.propagate_pixels

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
    "pixel prune": (lambda: pixels(FULL, IMAGE, prune="yes"),
        "prune: got 'yes', expected True or False. Change prune."),
    "pixel backend unknown": (lambda: pixels(FULL, IMAGE, backend="cuda"),
        "backend: got 'cuda', expected one of 'auto', 'torch', 'llvm', 'triton'. Change backend."),
    "pixel backend not installed": (lambda: pixels(FULL, IMAGE, backend="triton"),
        "backend: got 'triton', whose package triton is not installed, expected an installed one. "
        "Run pip install triton, or pass 'auto'."),
    "backend on another device": (
        lambda: kernels_for("triton", FULL, ("image", IMAGE), 1.0),
        "backend: got 'triton' for tensors on cpu, expected tensors on cuda. Move the tensors, or "
        "pass backend='auto'."),
    "backend without a gradient": (
        lambda: pixels(FULL, IMAGE.clone().requires_grad_(), backend="llvm"),
        "image: got a tensor that requires a gradient, with backend='llvm', expected one that does "
        "not: that backend differentiates in the scores only. Pass backend='torch', or "
        "image.detach()."),
    "pixel module option": (lambda: lpprop.PixelPropagation(tau=-1),
        "tau: got -1, expected a number in (0, inf). Change tau."),
    "module option unknown": (lambda: lpprop.PatchPropagation(kk=5),
        "kk: got an option that PatchPropagation does not have, expected one of k, gamma, "
        "sigma, alpha, patch_size, distance_power, max_iter, tol, appearance, sigma_a, spatial,"
        " backend. Did you mean k?"),
    "pixel module option unknown": (lambda: lpprop.PixelPropagation(radius=5),
        "radius: got an option that PixelPropagation does not have, expected one of tau, r, "
        "alpha, max_iter, tol, sigma, distance_power, backend, prune. Remove radius."),
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
        "logits: got values up to 6e+04 in torch.float16, expected logits whose result that "
        "dtype can hold. Scale the logits down, or pass float32."),
    "float32 overflow": (lambda: patches(torch.full((1, 1, 4, 4), 3e38), torch.ones(1, 2, 4, 4)),
        "logits: got values up to 3e+38 in torch.float32, expected logits whose result that "
        "dtype can hold. Scale the logits down."),
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
        "steps: got <class 'lpprop.refiners._patch_propagation.PatchPropagation'> "
        "(too many positional arguments), " + STEP),
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
        "windows: got sliding windows, expected None, since one_image works on one image. "
        "Refine whole images with this method. In a chain of your own, put BilinearUpsample() "
        "before a step on pixels, or give yours a keyword windows=."),
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
    "method unknown": (lambda: lpprop.presets.by_name("qqq"),
        "method: got 'qqq', expected one of " + METHODS
        + ", a module or a callable. Change method."),
    "method mistyped": (lambda: lpprop.presets.by_name("LPOSS +"),
        "method: got 'LPOSS +', expected one of " + METHODS
        + ", a module or a callable. Did you mean 'lposs+'?"),
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
        "taw: got an option that lposs_plus does not have, expected one of backbone, tau, r, "
        "prune, pixel_backend, k, gamma, sigma, alpha, patch_size, distance_power, max_iter, "
        "tol, appearance, sigma_a, spatial, backend. Did you mean tau?"),
    "preset option out of range": (lambda: lpprop.presets.lposs(k=0),
        "k: got 0, expected an integer >= 1. Change k."),
}
# fmt: on
