"""The shapes in the annotations are true: all public calls run under jaxtyping's import hook.

One subprocess, since the hook has to be there before the package is imported.
"""

import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("beartype")

# An int is a float here, as it is to mypy (PEP 484).
CHECKER = """
from beartype import BeartypeConf, beartype
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""

SCRIPT = """
from jaxtyping import TypeCheckError, install_import_hook

with install_import_hook(["lpprop", "wrong"], "checker.check"):
    import lpprop
    import wrong

import importlib.util

import numpy as np
import torch

compilers = importlib.util.find_spec("llvmlite") is not None
if compilers:
    from lpprop.kernels.llvm.stencil import stencil
pixels = lpprop.propagate_pixels

from lpprop.solvers import cg, ipf, sinkhorn

logits, feats = torch.rand(2, 3, 4, 5), torch.rand(2, 8, 4, 5)
image = torch.rand(2, 3, 64, 80)
full = torch.rand(2, 3, 64, 80)

for options in ({}, {"backend": "csr", "k": 5}, {"backend": "dense", "spatial": "linear"},
                {"appearance": "exponential", "spatial": "none"}):
    assert lpprop.propagate_patches(logits, feats, **options).shape == logits.shape
assert lpprop.propagate_pixels(full, image, r=5).shape == full.shape
assert lpprop.propagate_pixels(full, None, pixel_feats=image[:, :1], r=5).shape == full.shape
if compilers:  # one size of group and of features: under the hook, each takes a second to compile
    compiled = lpprop.PixelPropagation(r=5, backend="llvm")
    wanting = full.clone().requires_grad_()
    assert compiled(full, image=image).shape == compiled(wanting, image=image).shape == full.shape
    compiled(wanting, image=image).sum().backward()
    stencil.__globals__["_STORED_BYTES"] = 0
    assert compiled(full, image=image).shape == full.shape
assert lpprop.lab_features(image).shape == image.shape
assert lpprop.bilinear_upsample(logits, (64, 80)).shape == full.shape
assert lpprop.merge_classes(logits, [[0, 1], [2]]).shape == (2, 2, 4, 5)
assert lpprop.merge_classes(logits[..., 0, 0], [[0, 1], [2]]).shape == (2, 2)

windows = lpprop.SlidingWindows((80, 112), window=64, stride=32)
n = len(windows)
assert windows.boxes.shape == (n, 4)
assert windows.split(torch.rand(1, 3, 80, 112)).shape == (n, 3, 64, 64)
parts = torch.rand(n, 3, 4, 4), torch.rand(n, 8, 4, 4)
assert windows.merge(parts[0]).shape == (1, 3, 80, 112)
for boxes in (windows, windows.boxes):
    assert lpprop.propagate_patches(*parts, windows=boxes).shape == parts[0].shape

step = lpprop.PatchPropagation(k=5)
assert step(logits, feats=feats).shape == logits.shape
assert step(parts[0], feats=parts[1], windows=windows).shape == parts[0].shape
assert lpprop.PixelPropagation(r=5)(full, image=image).shape == full.shape
assert lpprop.BilinearUpsample()(logits, image=image).shape == full.shape
assert lpprop.BilinearUpsample()(parts[0], windows=windows).shape == (1, 3, 80, 112)
chain = lpprop.presets.lposs_plus(r=5)
assert chain(logits, feats=feats, image=image).shape == full.shape

assert lpprop.refine(logits, feats, image, r=5).shape == full.shape
assert lpprop.refine(logits.numpy(), feats.numpy(), image.numpy(), r=5).shape == full.shape
assert lpprop.refine(*parts, windows=windows, method="lposs").shape == (1, 3, 80, 112)
assert lpprop.refine(logits, size=(8, 10), method=lambda logits, **_: logits).shape == (2, 3, 8, 10)
assert lpprop.refine(*([part] * 2 for part in parts), windows=[windows] * 2,
                     method="lposs").shape == (1, 3, 80, 112)

result = cg(lambda x: 2 * x, torch.rand(2, 3, 7))
assert result.value.shape == (2, 3, 7) and result.converged.shape == (2, 3)

f = lpprop.class_distribution(logits, early_rejection=True)
assert f.shape == (2, 3, 20)
for options in ({"threshold": "absolute"}, {"confidence": "minmax"}, {"nms": 0, "logit_scale": 2}):
    assert lpprop.class_distribution(logits, **options).shape == f.shape
attention = lpprop.attention_from_features(feats, temperature=1)
assert attention.shape == (2, 20, 20)
assert lpprop.sharpen_attention(attention).shape == attention.shape
heads = torch.rand(2, 4, 80, 80)
maps = [attention, heads]
assert lpprop.aggregate_attention([heads], [[1, 0, 0.5, 0]], grids=[(8, 10)]).shape == (2, 80, 80)
assert lpprop.aggregate_attention(maps, [0, 1], (2, 3), grids=[(4, 5), (8, 10)]).shape == (2, 6, 6)
assert lpprop.aggregate_attention(maps, size=(4, 5)).shape == (2, 20, 20)

assert lpprop.kl_discrepancy(f).shape == f.shape
for norm in ("none", "image", "class", "sum"):
    assert lpprop.optimal_path(f, attention, norm=norm, complement=True).shape == f.shape
for epsilon in (1e-4, 1e-3, 10):  # in logarithms, float64, float32
    for scale in (1, 100):
        assert lpprop.optimal_path(f, scale * attention, epsilon=epsilon).shape == f.shape
assert lpprop.optimal_path(0 * f, attention).shape == f.shape
for criterion in ("arrival", "step"):
    assert lpprop.max_velocity(f, attention, criterion=criterion).shape == f.shape
assert lpprop.max_velocity(0 * f, attention).shape == f.shape
upsample = lpprop.joint_bilateral_upsample
if compilers:
    wanting = logits.clone().requires_grad_()
    assert upsample(logits, image, backend="llvm").shape == full.shape
    upsample(wanting, image, backend="llvm").sum().backward()
assert upsample(logits, image).shape == full.shape
assert upsample(logits, image, radius=0, size=(7, 9)).shape == (2, 3, 7, 9)
assert upsample(full, image[..., :9, :7]).shape == (2, 3, 9, 7)

for step in (lpprop.KLDiscrepancy(), lpprop.OptimalPath(), lpprop.MaxVelocity()):
    assert step(f, attention=attention).shape == f.shape
    assert step(f.unflatten(2, (4, 5)), attention=attention).shape == logits.shape
assert lpprop.ClassDistribution()(logits).shape == f.shape
assert lpprop.JointBilateralUpsample()(logits, image=image).shape == full.shape
assert lpprop.JointBilateralUpsample()(
    parts[0], image=torch.rand(1, 3, 80, 112), windows=windows).shape == (1, 3, 80, 112)
fused = lpprop.Fusion(lpprop.OptimalPath(), lpprop.MaxVelocity())
assert fused(f.unflatten(2, (4, 5)), attention=attention).shape == logits.shape
for method in ("optimal_path", "max_velocity", "kl", "fusion"):
    for given in ({"feats": feats}, {"attention": attention}, {"attention": heads}):
        assert lpprop.refine(logits, image=image, method=method, **given).shape == full.shape

result = sinkhorn(attention[0], f[0].softmax(-1))
assert result.value[0].shape == result.value[1].shape == f[0].shape
assert result.residual.shape == result.converged.shape == (3,)
assert ipf(attention[0]).value.shape == attention[0].shape

logits.requires_grad_()
lpprop.propagate_patches(logits, feats, backend="csr", k=5).sum().backward()
lpprop.refine(logits, feats, image, method="fusion").sum().backward()

# The check bites: wrong ranks at the door, and a wrong shape on the way out.
for call in (
    lambda: lpprop.propagate_patches(logits[0], feats),
    lambda: lpprop.propagate_pixels(full, image[:1]),
    lambda: lpprop.bilinear_upsample(logits.long(), (8, 8)),
    lambda: lpprop.optimal_path(f[0], attention),
    lambda: lpprop.max_velocity(f[..., :19], attention),
    lambda: ipf(attention[0, :19]),
    lambda: lpprop.affinity.nearest_neighbours(feats, 3, torch.float32),
    lambda: wrong.forgets_an_axis(logits),
    lambda: wrong.swaps_axes(logits),
):
    try:
        call()
    except TypeCheckError:
        continue
    raise SystemExit("a wrong shape went through")
assert wrong.right(logits).shape == logits.shape
print("all checked")
"""

WRONG = """
from jaxtyping import Float
from torch import Tensor

def right(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    return x + 1

def forgets_an_axis(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    return x.sum(1)

def swaps_axes(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    return x.mT
"""


def test_public_calls_keep_their_annotations(tmp_path):
    for name, text in (("checker", CHECKER), ("wrong", WRONG), ("script", SCRIPT)):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip() == "all checked"
