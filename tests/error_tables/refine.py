"""`lpprop.refine`: kinds of input, inputs that do not fit together, methods, windows."""

import math

import numpy as np
import torch
from PIL import Image

import lpprop
from error_tables.samples import (
    CROPS,
    FEATS,
    IMAGE,
    LOGITS,
    WIDE,
    WINDOWS,
    first_class,
    identity,
    one_image,
    returns,
    spoilt,
)
from lpprop.compose.pipeline import as_chain

refine = lpprop.refine

# fmt: off
TABLE = {
    "prune with several windows": (
        lambda: lpprop.refine([CROPS[0]] * 2, [CROPS[1]] * 2, WIDE, windows=[WINDOWS] * 2,
                              prune=True),
        "prune: got True, with a list of windows"),
    # refine: kinds of input
    "logits a list": (lambda: refine([[1.0]], FEATS, IMAGE), "logits: got list"),
    "logits a string": (lambda: refine("logits.npy", FEATS, IMAGE), "logits: got str"),
    "logits of objects": (lambda: refine(np.array([[[None]]]), FEATS, IMAGE),
        "logits: got dtype object"),
    "logits of strings": (lambda: refine(np.array([[["cat"]]]), FEATS, IMAGE),
        "logits: got dtype <U3"),
    "logits of integers": (lambda: refine(LOGITS.numpy().astype(int), FEATS, IMAGE),
        "logits: got dtype torch.int64"),
    "logits of two axes": (lambda: refine(LOGITS[0, 0], FEATS, IMAGE), "logits: got shape (4, 5)"),
    "feats a PIL image": (lambda: refine(LOGITS, Image.new("RGB", (5, 4)), IMAGE),
        "feats: got Image"),
    "attention a string": (lambda: refine(LOGITS, size=(8, 8), attention="maps", method=identity),
        "attention: got str"),
    "image a file name": (lambda: refine(LOGITS, FEATS, "cat.jpg"), "image: got str"),
    "image of 16 bits": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((64, 80, 3), np.uint16)),
        "image: got dtype torch.uint16"),
    "image of booleans": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((64, 80, 3), bool)),
        "image: got dtype torch.bool"),
    "image of 64-bit integers": (lambda: refine(LOGITS, FEATS, (255 * IMAGE).long()),
        "image: got dtype torch.int64"),
    "image of two axes": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((64, 80), np.uint8)),
        "image: got shape (64, 80)"),
    "image with alpha": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((64, 80, 4), np.uint8)),
        "image: got shape (64, 80, 4)"),
    "image of five axes": (lambda: refine(LOGITS, FEATS, IMAGE[None]),
        "image: got shape (1, 2, 3, 64, 80)"),
    "image read both ways": (lambda: refine(LOGITS[:1], FEATS[:1], np.zeros((3, 80, 3), np.uint8)),
        "image: got an array of shape (3, 80, 3), which can be read both ways"),
    "PIL image of 16 bits": (lambda: refine(LOGITS[:1], FEATS[:1], Image.new("I;16", (80, 64))),
        "image: got a PIL image of mode 'I;16'"),
    "PIL image of floats": (lambda: refine(LOGITS[:1], FEATS[:1], Image.new("F", (80, 64))),
        "image: got a PIL image of mode 'F'"),
    # refine: axes in another order, sizes, spans
    "refine channels last": (lambda: refine(LOGITS.movedim(1, -1), FEATS, IMAGE),
        "logits: got shape (2, 4, 5, 3)"),
    "refine height and width swapped": (
        lambda: refine(torch.rand(2, 3, 10, 8), image=IMAGE, method="bilinear"),
        "logits: got shape (2, 3, 10, 8)"),
    "refine tokens": (lambda: refine(LOGITS, FEATS[:1].flatten(2).mT, IMAGE),
        "feats: got shape (1, 1, 20, 8)"),
    "refine size of width and height": (lambda: refine(LOGITS, FEATS, IMAGE, size=(80, 64)),
        "size: got (80, 64)"),
    "refine span beside windows": (lambda: refine(*CROPS, WIDE, windows=WINDOWS, span=(96, 112)),
        "span: got (96, 112), beside windows"),
    # refine: classes at -inf
    "refine a class out of one item": (
        lambda: refine(spoilt(LOGITS, -math.inf, 1, 2), FEATS, IMAGE),
        "logits: got class 2 at -inf in some of the 2 items"),
    "refine all classes out": (lambda: refine(LOGITS - math.inf, FEATS, IMAGE),
        "logits: got -inf in every class"),
    "refine a class out of fewer": (
        lambda: refine(spoilt(LOGITS, -math.inf, slice(None), 2), FEATS, IMAGE, method=first_class),
        "logits: got a class at -inf everywhere"),
    "refine an ignored input of another kind": (
        lambda: lpprop.PatchPropagation()(LOGITS, feats=FEATS, attention=5),
        "attention: got int"),
    # refine: everything against everything
    "refine feats of batch 1": (lambda: refine(LOGITS, FEATS[:1], IMAGE),
        "feats: got shape (1, 8, 4, 5)"),
    "refine image of batch 1": (lambda: refine(LOGITS, FEATS, IMAGE[:1]),
        "image: got shape (1, 3, 64, 80)"),
    "refine one PIL image for two": (lambda: refine(LOGITS, FEATS, Image.new("RGB", (80, 64))),
        "image: got shape (1, 3, 64, 80)"),
    "refine attention not square": (
        lambda: refine(LOGITS, size=(8, 8), attention=torch.rand(2, 20, 19), method=identity),
        "attention: got shape (2, 20, 19)"),
    "refine attention of batch 1": (
        lambda: refine(LOGITS, size=(8, 8), attention=torch.rand(20, 20), method=identity),
        "attention: got shape (1, 20, 20)"),
    "refine heads of batch 1": (
        lambda: refine(LOGITS, size=(8, 8), attention=torch.rand(1, 4, 20, 20),
        method=identity),
        "attention: got shape (1, 4, 20, 20)"),
    "refine NaN in attention": (
        lambda: refine(LOGITS, size=(8, 8), attention=torch.full((2, 20, 20), math.nan),
        method=identity),
        "attention: got 800 NaN or infinite of 800 values, the first at (0, 0, 0)"),
    "refine pixel_feats of another size": (
        lambda: refine(LOGITS, FEATS, IMAGE, pixel_feats=torch.rand(2, 1, 64, 79)),
        "pixel_feats: got shape (2, 1, 64, 79)"),
    "refine NaN in logits": (lambda: refine(LOGITS / 0 * 0, FEATS, IMAGE),
        "logits: got 120 NaN or infinite of 120 values, the first at (0, 0, 0, 0)"),
    "refine infinite feats": (
        lambda: refine(LOGITS, spoilt(FEATS, math.inf, 1, 7, 3, 4).numpy(), IMAGE),
        "feats: got 1 NaN or infinite of 320 values, the first at (1, 7, 3, 4)"),
    "refine NaN in image": (lambda: refine(LOGITS, FEATS, spoilt(IMAGE, math.nan, 0, 0, 0, 0)),
        "image: got 1 NaN or infinite of 30720 values, the first at (0, 0, 0, 0)"),
    "refine floats 0-255": (
        lambda: refine(LOGITS[:1], FEATS[:1], np.linspace(0, 255, 64 * 80 * 3).reshape(64, 80,
        3)),
        "image: got values from 0 to 255"),
    "refine image normalised": (
        lambda: refine(LOGITS, FEATS, IMAGE.clamp(0.1, 0.9).index_fill(3, torch.tensor([0]),
        -1.5).index_fill(3, torch.tensor([1]), 2.0)),
        "image: got values from -1.5 to 2"),
    "refine without feats": (lambda: refine(LOGITS, None, IMAGE), "feats: got None"),
    "refine without image": (lambda: refine(LOGITS, FEATS, size=(64, 80)), "image: got None"),
    "refine without image and size": (lambda: refine(LOGITS, FEATS, method="lposs"),
        "image: got None, and no size"),
    "refine pixel_feats for none": (
        lambda: refine(LOGITS, FEATS, IMAGE, pixel_feats=IMAGE, method="lposs"),
        "pixel_feats: got an input that nobody takes"),
    "refine size one number": (lambda: refine(LOGITS, FEATS, IMAGE, size=64), "size: got 64"),
    "refine size of floats": (lambda: refine(LOGITS, FEATS, IMAGE, size=(64.0, 80.0)),
        "size[0]: got 64.0"),
    "refine size zero": (lambda: refine(LOGITS, FEATS, IMAGE, size=(0, 80)), "size[0]: got 0"),
    "refine size too large": (lambda: refine(LOGITS, FEATS, IMAGE, size=(50_000, 50_000)),
        "size: got 50000 x 50000 pixels"),
    "refine patches not square": (
        lambda: refine(LOGITS, FEATS, torch.rand(2, 3, 64, 200), method="lposs"),
        "feats: got a grid of 4 x 5 patches for 64 x 200 pixels"),
    # refine: methods and options
    "refine no method": (lambda: refine(LOGITS, FEATS, IMAGE, method=None), "method: got None"),
    "refine method mistyped": (lambda: refine(LOGITS, FEATS, IMAGE, method="lpos"),
        "method: got 'lpos'"),
    "refine method a class": (
        lambda: refine(LOGITS, FEATS, IMAGE, method=lpprop.PatchPropagation),
        "steps: got <class 'lpprop.refiners._patch_propagation.PatchPropagation'> (a class)"),
    "refine options beside a module": (
        lambda: refine(LOGITS, FEATS, IMAGE, method=lpprop.presets.lposs(), k=5, tau=0.1),
        "k: got an input that nobody takes"),
    "as_chain options beside a module": (lambda: as_chain(lpprop.presets.lposs(), k=5, tau=0.1),
        "k, tau: got options beside a method that is configured already"),
    "a method that is no name": (lambda: lpprop.presets.find(3), "method: got 3"),
    "refine option mistyped": (lambda: refine(LOGITS, FEATS, IMAGE, gama=2.0),
        "gama: got an option that auto does not have"),
    "refine option unknown": (lambda: refine(LOGITS, FEATS, IMAGE, epsilon=0.1),
        "epsilon: got an option that auto does not have"),
    "refine patch_size zero": (lambda: refine(LOGITS, FEATS, IMAGE, patch_size=0),
        "patch_size: got 0"),
    "refine patch_size NaN": (lambda: refine(LOGITS, FEATS, IMAGE, patch_size=math.nan),
        "patch_size: got nan"),
    "refine patch_size a string": (lambda: refine(LOGITS, FEATS, IMAGE, patch_size="16"),
        "patch_size: got '16'"),
    "refine tau negative": (lambda: refine(LOGITS, FEATS, IMAGE, tau=-1), "tau: got -1"),
    "refine r zero": (lambda: refine(LOGITS, FEATS, IMAGE, r=0), "r: got 0"),
    "refine method returns another batch": (
        lambda: refine(LOGITS, FEATS, IMAGE, method=returns(LOGITS[:1])),
        "method returned scores: got 1 items"),
    "refine method returns nothing": (lambda: refine(LOGITS, FEATS, IMAGE, method=returns(None)),
        "method returned unusable scores: got None"),
    # refine: windows
    "refine windows of another image": (
        lambda: refine(*CROPS, torch.rand(1, 3, 112, 80), windows=WINDOWS),
        "windows: got windows of a 80 x 112 image"),
    "refine windows of another number": (lambda: refine(LOGITS, FEATS, WIDE, windows=WINDOWS),
        "logits: got 2 items"),
    "refine windows of a batch of images": (
        lambda: refine(*CROPS, WIDE.repeat(6, 1, 1, 1), windows=WINDOWS),
        "image: got shape (6, 3, 80, 112)"),
    "refine windows and crops for image": (
        lambda: refine(*CROPS, torch.rand(6, 3, 64, 64), windows=WINDOWS),
        "image: got shape (6, 3, 64, 64)"),
    "refine windows a number": (lambda: refine(*CROPS, WIDE, windows=224), "windows: got int"),
    "refine windows as boxes": (lambda: refine(*CROPS, WIDE, windows=WINDOWS.boxes),
        "windows: got Tensor"),
    "refine windows a pair": (lambda: refine(*CROPS, WIDE, windows=(64, 32)),
        "windows: got (64, 32)"),
    "refine windows an empty list": (lambda: refine([], [], WIDE, windows=[]), "windows: got list"),
    "refine windows for one image": (
        lambda: refine(*CROPS, WIDE, windows=WINDOWS, method=one_image),
        "windows: got sliding windows"),
    "ensemble with one array of logits": (
        lambda: refine(CROPS[0], [CROPS[1]], WIDE, windows=[WINDOWS]),
        "logits: got Tensor"),
    "ensemble with one list too short": (
        lambda: refine([CROPS[0]] * 2, [CROPS[1]], WIDE, windows=[WINDOWS] * 2),
        "feats: got a list of 1"),
    "ensemble with a bad last item": (
        lambda: refine([CROPS[0]] * 2, [CROPS[1], CROPS[1][:5]], WIDE, windows=[WINDOWS] * 2),
        "feats: got shape (5, 8, 4, 4)"),
}
# fmt: on
