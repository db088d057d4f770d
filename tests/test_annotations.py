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
    from lpprop import *
    import lpprop
    import lpprop.regions
    import wrong

import importlib.util

import numpy as np
import torch

compilers = importlib.util.find_spec("llvmlite") is not None
if compilers:
    from lpprop.kernels.llvm import stencil
pixels = lpprop.propagate_pixels

from lpprop.numerics.cg import cg
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn

logits, feats = torch.rand(2, 3, 4, 5), torch.rand(2, 8, 4, 5)
image = torch.rand(2, 3, 64, 80)
full = torch.rand(2, 3, 64, 80)

for options in ({}, {"storage": "csr", "k": 5}, {"storage": "dense", "spatial": "linear"},
                {"appearance": "exponential", "spatial": "none"}):
    assert lpprop.propagate_patches(logits, feats, **options).shape == logits.shape
assert lpprop.propagate_pixels(full, image, r=5).shape == full.shape
assert lpprop.propagate_pixels(full, None, pixel_feats=image[:, :1], r=5).shape == full.shape
if compilers:  # one size of group and of features: under the hook, each takes a second to compile
    compiled = lpprop.PixelPropagation(r=5, backend="llvm")
    wanting = full.clone().requires_grad_()
    assert compiled(full, image=image).shape == compiled(wanting, image=image).shape == full.shape
    compiled(wanting, image=image).sum().backward()
    stencil._STORED_BYTES = 0
    assert compiled(full, image=image).shape == full.shape
assert lpprop.lab_features(image).shape == image.shape
assert lpprop.pamr(full, image, dilations=(1,)).shape == full.shape
assert lpprop.guided_filter(full, image, radius=2).shape == full.shape
maps, masks = torch.zeros(2, 8, 10).int(), [torch.rand(3, 64, 80), torch.rand(2, 8, 9) > 0.5]
weights = [torch.rand(3), torch.rand(2)]
for regions, options in ((maps, {"by": "vote"}), (masks, {"purity": 0.3, "strength": 0.5}),
                         (masks, {"overlap": "largest", "region_scores": weights})):
    assert lpprop.region_vote(full, regions, **options).shape == full.shape
    assert lpprop.RegionVote()(full, regions=regions).shape == full.shape
assert lpprop.region_vote(full[:1], masks[:1], region_scores=weights[0]).shape == (1, 3, 64, 80)
for regions in (lambda image: (9 * image[:, 0]).long(), lambda image, scores: masks, maps.numpy()):
    assert lpprop.refine(logits, image=image, regions=regions,
                         method="region_vote").shape == full.shape
assert lpprop.local_crf(full, image, r=3, iterations=2).shape == full.shape
assert lpprop.attention_pool(logits, torch.rand(2, 20, 20).softmax(-1)).shape == logits.shape
assert lpprop.correlation_pool(logits, feats).shape == logits.shape
assert lpprop.correlation_attention(feats, threshold=0.4).shape == (2, 20, 20)
if importlib.util.find_spec("pydensecrf") is not None:
    assert lpprop.dense_crf(full.softmax(1), image, scale=None, iterations=1).shape == full.shape
masks = full[0] > 0.3
assert lpprop.class_shares(logits).shape == logits.shape
for options in ({}, {"grid": (4, 5), "radius": 3}, {"classes": ["a", "b"], "radius": 0.5}):
    at = [[3, 4], [9, 30]]
    for points in (at, np.array(at) + 0.5, torch.tensor(at)):
        found = lpprop.seed_logits(points, [1, 0], (20, 40), **options)
        assert found.shape == (1, 2, *options.get("grid", (20, 40)))
assert lpprop.fuse_masks(masks, threshold=0.5).shape == (1, 64, 80)
assert lpprop.fuse_masks(masks[:0]).shape == (0, 64, 80)
assert lpprop.prompt_points(masks[0], 3).shape == (3, 2)
for labels in (full.argmax(1), full[0].argmax(0).int()):
    assert lpprop.regions.components(labels, min_area=2).shape == labels.shape
if importlib.util.find_spec("skimage") is not None:
    assert lpprop.regions.slic(image).shape == lpprop.regions.felzenszwalb(image).shape
rle = {"size": [2, 3], "counts": [1, 5]}
assert lpprop.regions.from_sam([rle, rle]).shape == lpprop.regions.from_sam(masks[:2, :2, :3]).shape
methods = ["bilinear", "lposs", "kl"]
comparison = lpprop.compare(logits[0], feats[0], image[0], methods=methods, gt=full[0].argmax(0))
assert comparison.figure(errors=True).width > 80 and "lposs" in comparison.to_markdown()
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
lpprop.propagate_patches(logits, feats, storage="csr", k=5).sum().backward()
lpprop.refine(logits, feats, image, method="fusion").sum().backward()

# The check bites: wrong ranks at the door, and a wrong shape on the way out.
for call in (
    lambda: lpprop.propagate_patches(logits[0], feats),
    lambda: lpprop.propagate_pixels(full, image[:1]),
    lambda: lpprop.bilinear_upsample(logits.long(), (8, 8)),
    lambda: lpprop.optimal_path(f[0], attention),
    lambda: lpprop.max_velocity(f[..., :19], attention),
    lambda: ipf(attention[0, :19]),
    lambda: lpprop.numerics.graphs.nearest_neighbours(feats, 3, torch.float32),
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

MODELS = """
from jaxtyping import install_import_hook

with install_import_hook("lpprop", "checker.check"):
    import lpprop
    from lpprop.backbones import MaskCLIP, StableDiffusion, VisionTransformer
    from lpprop.evaluation import SegmentationMetrics, Start, refinements, tune
    from lpprop.evaluation.analyses import patch_oracle, relabel
    from lpprop.integrations import huggingface, on_grid
    from lpprop.models.segmenter import Segmenter
    from lpprop.regions import SAM, Panoptic, PromptedSAM

import importlib.util
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from PIL import Image
from transformers import (
    CLIPConfig, CLIPModel, CLIPTokenizer, EomtConfig, EomtForUniversalSegmentation, SamConfig,
    SamModel, ViTConfig, ViTModel)
from transformers.modeling_outputs import SemanticSegmenterOutput

image = torch.rand(2, 3, 52, 64)
letters = ["<|startoftext|>", "<|endoftext|>", *"acdo", "a</w>", "t</w>", "g</w>"]
tokenizer = CLIPTokenizer(vocab={text: i for i, text in enumerate(letters)}, merges=[])
tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
config = CLIPConfig(text_config={**tiny, "vocab_size": len(letters), "eos_token_id": 1},
                    vision_config={**tiny, "patch_size": 16}, projection_dim=24)
clip = MaskCLIP(CLIPModel(config), tokenizer, templates=["a {}"], attention="key-key")
vit = VisionTransformer(ViTModel(ViTConfig(**tiny, patch_size=16)), attention="query-key")
vae = AutoencoderKL(block_out_channels=[4], norm_num_groups=4)
unet = UNet2DConditionModel(
    block_out_channels=(4, 4), attention_head_dim=2, cross_attention_dim=8, norm_num_groups=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
sd = StableDiffusion(vae, unet, torch.rand(1, 77, 8), side=8)

for affinity, method, windows in ((vit, "lposs", (32, 16)), (sd, "max_velocity", None)):
    segmenter = Segmenter(clip, affinity, method, windows=windows)
    assert segmenter(image, ["cat", "dog"]).labels.shape == (2, 52, 64)

sides = {"image_size": 64, "patch_size": 16}
decoder = {"hidden_size": 16, "num_attention_heads": 2}
model = SamModel(SamConfig(
    vision_config={**tiny, **sides, "output_channels": 16, "global_attn_indexes": [1],
                   "num_pos_feats": 8},
    prompt_encoder_config={**sides, "hidden_size": 16}, mask_decoder_config=decoder))
found = SAM(model, points_per_side=2, iou_threshold=-9, stability_threshold=0).propose(image)
assert len(found.masks[0]) == len(found.scores[0]) > 0
prompted = PromptedSAM(model, iou_threshold=-9, min_area=0)
scores = torch.rand(2, 3, 5, 6)
assert prompted.relabel(image, scores).shape == (2, 3, 52, 64)
assert len(prompted.propose(image, scores).classes) == 2
eomt = EomtForUniversalSegmentation(EomtConfig(**tiny, **sides, num_queries=3, num_blocks=1))
assert Panoptic(eomt, score_threshold=0)(image).shape == (2, 52, 64)

output = SemanticSegmenterOutput(logits=torch.rand(2, 3, 13, 16))
refined = huggingface.refine_outputs(output, image, feats=vit(image).feats, method="lposs")
assert refined.logits.shape[:2] == (2, 3)
assert on_grid(output.logits, (4, 4)).shape == (2, 3, 4, 4)

gt = np.repeat(np.arange(64) % 3, 52).reshape(64, 52).T.astype(np.uint8)
assert SegmentationMetrics(3).update(gt, gt).miou == 1
oracle = patch_oracle(gt, 16, 3)
assert relabel(oracle, seed=0).shape == oracle.shape
sample = SimpleNamespace(name="a", image=Image.new("RGB", (64, 52)), gt=gt)
start = Start(oracle[None] if oracle.ndim == 3 else oracle)
for predictor in refinements(lambda _: start, ["bilinear", "kl"]).values():
    assert predictor(sample).shape == (3, 52, 64)

class Two(list):
    name, class_names = "two", ["sky", "road", "tree"]

if importlib.util.find_spec("optuna"):
    other = SimpleNamespace(name="b", image=sample.image, gt=gt)
    with tempfile.TemporaryDirectory() as out:
        options = {"methods": ["pamr"], "trials": 3, "progress": False}
        found = tune(Two([sample, other]), lambda _: start, Path(out), **options)
    assert "lpprop.presets" in found.to_markdown()
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


def run(folder, script):
    for name, text in (("checker", CHECKER), ("wrong", WRONG), ("script", script)):
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, str(folder / "script.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip() == "all checked"


def test_public_calls_keep_their_annotations(tmp_path):
    run(tmp_path, SCRIPT)


def test_models_and_evaluation_keep_their_annotations(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("diffusers")
    run(tmp_path, MODELS)
