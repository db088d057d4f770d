"""What every refiner promises, run over one table.

To put a new refiner under the contract, add one `Refiner(...)` to `REFINERS`; nothing else.
`--device fake` and `--device cuda` run all of it on a device that is not the CPU.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch.autograd import gradcheck

import lpprop

pytestmark = pytest.mark.gpu


class Refiner(NamedTuple):
    """One row of the table."""

    name: str
    # function(logits, **inputs, **params) -> scores
    function: Callable[..., torch.Tensor]
    # module(**params)(logits, **inputs) -> the same scores
    module: Callable[..., torch.nn.Module]
    # inputs(batch) -> {"logits": ..., others by keyword}: float64 tensors, values in half's range,
    # away from the function's kinks; what is no tensor is passed on as it is.
    inputs: Callable[[int], dict[str, Any]]
    params: dict[str, Any]
    # Shape of the scores, of the inputs; usually the logits' own.
    shape: Callable[[dict[str, Any]], tuple[int, ...]] = lambda inputs: inputs["logits"].shape
    # Inputs beside the logits that a gradient reaches.
    differentiable: tuple[str, ...] = ()
    # Inputs in which a gradient is refused: a backend may differentiate in the logits alone.
    fixed: tuple[str, ...] = ()
    # Whether the scores have a gradient in the logits; counts of steps have none.
    smooth: bool = True
    # Whether items are independent (windows of one image are not).
    batched: bool = True
    # Results on the way that a half-precision call rounds: one a step.
    roundings: int = 1
    # A package that this row needs.
    package: str = "lpprop"


def random(seed, *shape, low=-1.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)


def patches(batch):
    return {"logits": random(0, batch, 3, 3, 4), "feats": random(1, batch, 6, 3, 4)}


def windows(_):
    # 3 x 3 patches of 4 pixels in each of the 2 x 2 windows.
    setting = lpprop.SlidingWindows((18, 18), window=12, stride=6)
    return {
        "logits": random(0, 4, 2, 3, 3),
        "feats": random(1, 4, 6, 3, 3),
        "windows": setting,
    }


def pixels(batch):
    # In the middle of [0, 1], where sRGB and Lab are smooth.
    return {
        "logits": random(0, batch, 2, 4, 5),
        "image": random(1, batch, 3, 4, 5, low=0.3, high=0.6),
    }


def probabilities(batch):
    # In parts of 64, which sum to 1 in every dtype.
    parts = random(2, batch, 1, 4, 5, low=1, high=63).round() / 64
    return pixels(batch) | {"logits": torch.cat([parts, 1 - parts], 1)}


def pixels_by_features(batch):
    return {"logits": random(0, batch, 2, 4, 5), "pixel_feats": random(1, batch, 2, 4, 5)}


def upsampling(batch):
    return {
        "logits": random(0, batch, 2, 3, 4),
        "image": random(1, batch, 3, 7, 9, low=0.3, high=0.6),
    }


def patches_and_pixels(batch):
    return patches(batch) | {"image": random(2, batch, 3, 12, 16, low=0.45, high=0.5)}


def upsampling_without_image(batch):
    return {"logits": upsampling(batch)["logits"]}


def positive_scores(batch):
    return {"logits": random(0, batch, 2, 3, 4, low=0.1, high=1)}


def upsampling_windows(_):
    # Four windows of 12 x 12 pixels, in patches of 4.
    setting = lpprop.SlidingWindows((18, 18), window=12, stride=6)
    return {
        "logits": random(0, 4, 2, 3, 3),
        "image": random(1, 1, 3, 18, 18, low=0.3, high=0.6),
        "windows": setting,
    }


def attention_of(seed, *shape):
    return random(seed, *shape).mul(2).softmax(-1)


def distributions(batch):
    # Each of 12 patches has 1 to 9 parts in 64: rows sum to 1 in every dtype, half included.
    parts = torch.tensor([9, 1, 8, 2, 7, 4, 6, 3, 5, 9, 2, 8], dtype=torch.float64) / 64
    orders = random(0, batch, 3, 12).argsort(-1)
    return {"logits": parts[orders], "attention": attention_of(1, batch, 12, 12)}


def distributions_alone(batch):
    return {"logits": distributions(batch)["logits"]}


def attended(batch):
    return upsampling(batch) | {"attention": attention_of(3, batch, 12, 12)}


def attended_by_heads(batch):
    return upsampling(batch) | {"attention": attention_of(3, batch, 4, 12, 12)}


def attending(batch):
    return upsampling(batch) | {"feats": random(3, batch, 6, 3, 4)}


def voted_maps(batch):
    # Three regions, one of a single pixel, and pixels in none.
    maps = random(1, batch, 4, 5, low=-0.99, high=2.99).floor().long()
    maps[:, 0, 0] = 10**9
    return {"logits": random(0, batch, 3, 4, 5), "regions": maps}


def voted_masks(batch):
    # As many in each image as its number tells, on a grid of their own; they overlap.
    masks = [random(i, 2 + i, 8, 7) > 0.2 for i in range(batch)]
    return {"logits": random(0, batch, 3, 4, 5), "regions": masks}


def voted_upsampling(batch):
    maps = random(3, batch, 7, 9, low=-0.99, high=2.99).floor().long()
    return upsampling(batch) | {"regions": maps}


def voted_patches(batch):
    maps = random(3, batch, 12, 16, low=-0.99, high=4.99).floor().long()
    return patches_and_pixels(batch) | {"regions": maps}


def image_size(inputs):
    return (*inputs["logits"].shape[:2], *inputs["image"].shape[-2:])


def one_image_size(inputs):
    return (1, *image_size(inputs)[1:])


def patches_in_a_row(inputs):
    return inputs["logits"].flatten(2).shape


def refined_by(method):
    return lambda logits, **rest: lpprop.refine(logits, method=method, **rest)


def renamed(function, *others):
    """Call a function by the names of a module's inputs, whatever its own are."""
    return lambda logits, **rest: function(logits, *map(rest.pop, others), **rest)


def bilateral_of_windows(logits, image, windows, **params):
    crops = lpprop.joint_bilateral_upsample(logits, windows.split(image), **params)
    return windows.merge(crops)


# Few steps: a stop at the tolerance would be a jump, which has no derivative to check.
PATCHES = {"k": 5, "sigma": 0.02, "max_iter": 3}
PIXELS = {"tau": 0.3, "r": 3, "max_iter": 3}
FIELD = {"scale": 2.0, "iterations": 2, "theta_alpha": 3.0, "theta_beta": 60.0, "r": 3}
PATH = {"epsilon": 0.05, "iterations": 5}
VELOCITY = {"tau": 0.6, "max_steps": 20}

# Smooth attention, where it is built.
ATTENTION_OF = {"feats": {"temperature": 0.5}}

REFINERS = [
    Refiner(
        "patches",
        lpprop.propagate_patches,
        lpprop.PatchPropagation,
        patches,
        PATCHES,
        differentiable=("feats",),
    ),
    Refiner(
        "patches-csr",
        lpprop.propagate_patches,
        lpprop.PatchPropagation,
        patches,
        PATCHES | {"storage": "csr"},
        differentiable=("feats",),
    ),
    Refiner(
        "patches-torch-sparse",
        lpprop.propagate_patches,
        lpprop.PatchPropagation,
        patches,
        PATCHES | {"storage": "torch-sparse"},
        differentiable=("feats",),
        package="torch_sparse",
    ),
    Refiner(
        "patches-variants",
        lpprop.propagate_patches,
        lpprop.PatchPropagation,
        patches,
        PATCHES | {"appearance": "exponential", "spatial": "linear", "distance_power": 0.5},
        differentiable=("feats",),
    ),
    Refiner(
        "patches-windows",
        lpprop.propagate_patches,
        lpprop.PatchPropagation,
        windows,
        PATCHES | {"patch_size": 4},
        differentiable=("feats",),
        batched=False,
    ),
    Refiner(
        "pixels",
        lpprop.propagate_pixels,
        lpprop.PixelPropagation,
        pixels,
        PIXELS,
        differentiable=("image",),
    ),
    Refiner(
        "pixels-spatial",
        lpprop.propagate_pixels,
        lpprop.PixelPropagation,
        pixels,
        PIXELS | {"sigma": 0.2, "distance_power": 2.0},
        differentiable=("image",),
    ),
    # The row "pixels" is "auto", which takes "torch" for what is small.
    Refiner(
        "pixels-torch",
        lpprop.propagate_pixels,
        lpprop.PixelPropagation,
        pixels,
        PIXELS | {"backend": "torch"},
        differentiable=("image",),
    ),
    Refiner(
        "pixels-llvm",
        lpprop.propagate_pixels,
        lpprop.PixelPropagation,
        pixels,
        PIXELS | {"backend": "llvm"},
        fixed=("image",),
        package="llvmlite",
    ),
    Refiner(
        "pixels-features",
        lambda logits, pixel_feats, **params: lpprop.propagate_pixels(
            logits, None, pixel_feats=pixel_feats, **params
        ),
        lpprop.PixelPropagation,
        pixels_by_features,
        PIXELS,
        differentiable=("pixel_feats",),
    ),
    Refiner(
        "bilinear",
        lambda logits, image: lpprop.bilinear_upsample(logits, image.shape[-2:]),
        lpprop.BilinearUpsample,
        upsampling,
        {},
        shape=image_size,
    ),
    Refiner(
        "lposs",
        refined_by("lposs"),
        lpprop.presets.lposs,
        patches_and_pixels,
        PATCHES | {"patch_size": 4},
        shape=image_size,
        differentiable=("feats",),
        roundings=2,
    ),
    Refiner(
        "lposs+",
        refined_by("lposs+"),
        lpprop.presets.lposs_plus,
        patches_and_pixels,
        PATCHES | PIXELS | {"patch_size": 4},
        shape=image_size,
        differentiable=("feats", "image"),
        roundings=3,
    ),
    Refiner(
        "auto",
        refined_by("auto"),
        lpprop.presets.auto,
        patches_and_pixels,
        PIXELS | {"patch_size": 4},
        shape=image_size,
        differentiable=("image",),  # gamma and alpha, chosen from the feats, are held fixed
        roundings=3,
    ),
    Refiner(
        "clicks",
        refined_by("clicks"),
        lpprop.presets.clicks,
        patches_and_pixels,
        PIXELS | {"patch_size": 4},
        shape=image_size,
        differentiable=("image",),  # gamma, chosen from the feats, is held fixed
        roundings=4,
    ),
    *(
        Refiner(
            f"shares-{name}",
            lpprop.class_shares,
            lpprop.ClassShares,
            inputs,
            {},
        )
        for name, inputs in {"softmax": upsampling_without_image, "sums": positive_scores}.items()
    ),
    *(
        Refiner(
            f"distribution-{name}",
            lpprop.class_distribution,
            lpprop.ClassDistribution,
            upsampling_without_image,
            {"nms": 0.5} | options,
            shape=patches_in_a_row,
        )
        for name, options in {
            "default": {},
            "absolute": {"threshold": "absolute", "confidence": "minmax"},
            "scaled": {"logit_scale": 4.0, "early_rejection": True},
        }.items()
    ),
    Refiner(
        "divergence",
        renamed(lpprop.kl_discrepancy),
        lpprop.KLDiscrepancy,
        distributions_alone,
        {},
    ),
    *(
        Refiner(
            f"path-{name}",
            renamed(lpprop.optimal_path, "attention"),
            lpprop.OptimalPath,
            distributions,
            options,
            differentiable=("attention",),
        )
        for name, options in {
            "default": {},
            "logarithms": {"epsilon": 1e-3, "iterations": 5},
            "image": {"norm": "image"},
            "complement": {"complement": True, "norm": "sum"},
        }.items()
    ),
    Refiner(
        "velocity",
        renamed(lpprop.max_velocity, "attention"),
        lpprop.MaxVelocity,
        distributions,
        VELOCITY,
        differentiable=("attention",),
    ),
    Refiner(
        "velocity-step",
        renamed(lpprop.max_velocity, "attention"),
        lpprop.MaxVelocity,
        distributions,
        {"tau": 0.02, "criterion": "step"},
        smooth=False,
    ),
    Refiner(
        "bilateral",
        renamed(lpprop.joint_bilateral_upsample, "image"),
        lpprop.JointBilateralUpsample,
        upsampling,
        {"radius": 1},
        shape=image_size,
        differentiable=("image",),
    ),
    Refiner(
        "bilateral-torch",
        renamed(lpprop.joint_bilateral_upsample, "image"),
        lpprop.JointBilateralUpsample,
        upsampling,
        {"radius": 1, "backend": "torch"},
        shape=image_size,
        differentiable=("image",),
    ),
    Refiner(
        "bilateral-llvm",
        renamed(lpprop.joint_bilateral_upsample, "image"),
        lpprop.JointBilateralUpsample,
        upsampling,
        {"radius": 1, "backend": "llvm"},
        shape=image_size,
        fixed=("image",),
        package="llvmlite",
    ),
    Refiner(
        "bilateral-sized",
        renamed(lpprop.joint_bilateral_upsample, "image"),
        lpprop.JointBilateralUpsample,
        upsampling,
        {"sigma_space": 0.7, "sigma_range": 0.2, "size": (5, 11)},
        shape=lambda inputs: (*inputs["logits"].shape[:2], 5, 11),
        differentiable=("image",),
    ),
    Refiner(
        "bilateral-windows",
        bilateral_of_windows,
        lpprop.JointBilateralUpsample,
        upsampling_windows,
        {"radius": 1},
        shape=one_image_size,
        differentiable=("image",),
        batched=False,
    ),
    *(
        Refiner(
            f"{method}-{source}",
            refined_by(method),
            lpprop.presets.METHODS[method],
            inputs,
            {"nms": 0.5, "radius": 1} | options | ATTENTION_OF.get(source, {}),
            shape=image_size,
            differentiable=("image", "feats" if source == "feats" else "attention"),
            roundings=3,
        )
        for method, source, inputs, options in (
            ("optimal_path", "attention", attended, PATH),
            ("optimal_path", "heads", attended_by_heads, PATH),
            ("optimal_path", "feats", attending, PATH),
            ("max_velocity", "heads", attended_by_heads, VELOCITY),
            ("max_velocity", "feats", attending, VELOCITY),
            ("fusion", "attention", attended, PATH | VELOCITY),
        )
    ),
    Refiner(
        "kl",
        refined_by("kl"),
        lpprop.presets.kl,
        upsampling,
        {"nms": 0.5, "radius": 1},
        shape=image_size,
        differentiable=("image",),
        roundings=3,
    ),
    Refiner(
        "pamr",
        renamed(lpprop.pamr, "image"),
        lpprop.PAMR,
        pixels,
        {"iterations": 2, "dilations": (1, 3)},
        differentiable=("image",),
    ),
    Refiner(
        "guided",
        renamed(lpprop.guided_filter, "image"),
        lpprop.GuidedFilter,
        pixels,
        {"radius": 2, "eps": 0.01},
        differentiable=("image",),
    ),
    *(
        Refiner(
            f"vote-{name}",
            renamed(lpprop.region_vote, "regions"),
            lpprop.RegionVote,
            inputs,
            options,
            smooth=options.get("by") != "vote",
        )
        for name, inputs, options in (
            ("maps", voted_maps, {}),
            ("maps-pure", voted_maps, {"by": "probability", "strength": 0.7, "purity": 0.5}),
            ("maps-majority", voted_maps, {"by": "vote", "strength": 0.7}),
            ("masks", voted_masks, {"by": "probability", "purity": 0.4}),
            ("masks-smallest", voted_masks, {"overlap": "smallest", "strength": 0.5}),
            ("masks-majority", voted_masks, {"by": "vote", "overlap": "largest"}),
        )
    ),
    *(
        Refiner(
            f"crf-{name}",
            renamed(lpprop.dense_crf, "image"),
            lpprop.DenseCRF,
            inputs,
            {"theta_alpha": 3.0, "iterations": 2} | options,
            fixed=("logits", "image"),
            smooth=False,
            package="pydensecrf",
        )
        for name, inputs, options in (
            ("auto", pixels, {}),
            ("scaled", pixels, {"scale": 4.0}),
            ("probabilities", probabilities, {"scale": None}),
        )
    ),
    *(
        Refiner(
            f"local-crf-{name}",
            renamed(lpprop.local_crf, "image"),
            lpprop.LocalCRF,
            inputs,
            FIELD | options,
            differentiable=("image",) if name != "llvm" else (),
            fixed=("image",) if name == "llvm" else (),
            package="llvmlite" if name == "llvm" else "lpprop",
        )
        for name, inputs, options in (
            ("auto", pixels, {"scale": "auto"}),
            ("probabilities", probabilities, {"scale": None}),
            ("llvm", pixels, {"backend": "llvm"}),
        )
    ),
    Refiner(
        "attention-pool",
        renamed(lpprop.attention_pool, "attention"),
        lpprop.AttentionPool,
        distributions,
        {"steps": 2},
        differentiable=("attention",),
    ),
    Refiner(
        "correlation-pool",
        renamed(lpprop.correlation_pool, "feats"),
        lpprop.CorrelationPool,
        patches,
        {"threshold": 0.1, "steps": 2},
        differentiable=("feats",),
    ),
    Refiner(
        "bilinear-preset",
        refined_by("bilinear"),
        lpprop.presets.bilinear,
        upsampling,
        {},
        shape=image_size,
    ),
    Refiner(
        "joint_bilateral",
        refined_by("joint_bilateral"),
        lpprop.presets.joint_bilateral,
        upsampling,
        {"radius": 1},
        shape=image_size,
        differentiable=("image",),
    ),
    Refiner(
        "guided_filter",
        refined_by("guided_filter"),
        lpprop.presets.guided_filter,
        upsampling,
        {"radius": 2, "eps": 0.01},
        shape=image_size,
        differentiable=("image",),
        roundings=2,
    ),
    Refiner(
        "region_vote",
        refined_by("region_vote"),
        lpprop.presets.region_vote,
        voted_upsampling,
        {"by": "mean"},
        shape=image_size,
        roundings=2,
    ),
    Refiner(
        "lposs+regions",
        refined_by("lposs+regions"),
        lpprop.presets.lposs_regions,
        voted_patches,
        PATCHES | {"patch_size": 4, "by": "probability"},
        shape=image_size,
        differentiable=("feats",),
        roundings=3,
    ),
    Refiner(
        "pamr-preset",
        refined_by("pamr"),
        lpprop.presets.pamr,
        upsampling,
        {"iterations": 2, "dilations": (1, 3)},
        shape=image_size,
        differentiable=("image",),
        roundings=2,
    ),
    Refiner(
        "dense_crf",
        refined_by("dense_crf"),
        lpprop.presets.dense_crf,
        upsampling,
        {"iterations": 2, "scale": 2.0},
        shape=image_size,
        fixed=("logits", "image"),
        smooth=False,
        roundings=2,
        package="pydensecrf",
    ),
    Refiner(
        "local_crf",
        refined_by("local_crf"),
        lpprop.presets.local_crf,
        upsampling,
        FIELD,
        shape=image_size,
        differentiable=("image",),
        roundings=2,
    ),
    Refiner(
        "attention_pool",
        refined_by("attention_pool"),
        lpprop.presets.attention_pool,
        attended,
        {"steps": 2},
        shape=image_size,
        differentiable=("attention",),
        roundings=2,
    ),
    Refiner(
        "clip_dinoiser",
        refined_by("clip_dinoiser"),
        lpprop.presets.clip_dinoiser,
        attending,
        {"threshold": 0.1},
        shape=image_size,
        differentiable=("feats",),
        roundings=2,
    ),
]

HALVES = [torch.float16, torch.bfloat16]
DTYPES = [*HALVES, torch.float32, torch.float64]
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(params=REFINERS, ids=lambda refiner: refiner.name)
def refiner(request, device):
    row = request.param
    pytest.importorskip(row.package)
    if device.type != "cpu" and compiled(row):
        pytest.skip("compiled code is for a CPU")
    return row._replace(inputs=lambda batch: placed(row.inputs(batch), device))


def compiled(refiner):
    return refiner.params.get("backend") == "llvm"


def only(condition):
    """Run a test over the rows that it applies to."""
    rows = [refiner for refiner in REFINERS if condition(refiner)]
    return pytest.mark.parametrize("refiner", rows, ids=[row.name for row in rows], indirect=True)


def mapped(inputs, change):
    """Apply a change to the tensors of floats among the inputs; the others say where things are."""
    return {
        name: change(value)
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in inputs.items()
    }


def placed(inputs, device):
    """Move the inputs, which may be lists of tensors, to a device."""

    def move(value):
        if isinstance(value, list):
            return [move(item) for item in value]
        return value.to(device) if isinstance(value, torch.Tensor) else value

    return {name: move(value) for name, value in inputs.items()}


def item(inputs, number):
    """Take one item of a batch of tensors or lists."""
    return {name: value[number : number + 1] for name, value in inputs.items()}


def call(refiner, inputs):
    return refiner.function(**inputs, **refiner.params)


def same(got, expected):
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def close(got, expected):
    """Equal but for the order in which sums are taken."""
    rtol = 1e-12 if expected.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(got, expected, rtol=rtol, atol=rtol * float(expected.abs().max()))


@dtypes
def test_shape_and_dtype(refiner, dtype):
    inputs = mapped(refiner.inputs(2), lambda x: x.to(dtype))
    scores = call(refiner, inputs)
    assert tuple(scores.shape) == tuple(refiner.shape(inputs))
    assert scores.dtype == dtype
    assert scores.device == inputs["logits"].device
    assert torch.isfinite(scores).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_is_computed_in_single(refiner, dtype):
    """A half-precision call is the float32 call on the same numbers, rounded once at the end."""
    inputs = mapped(refiner.inputs(2), lambda x: x.to(dtype))
    single = call(refiner, mapped(inputs, torch.Tensor.float))
    eps = torch.finfo(dtype).eps
    got = call(refiner, inputs).float()
    atol = refiner.roundings * eps * float(single.abs().max())
    torch.testing.assert_close(got, single, rtol=eps, atol=atol)


def test_the_logits_dtype_decides(refiner):
    """Features of another precision do not change the dtype of the scores."""
    inputs = refiner.inputs(2)
    for dtype, other in [(torch.float16, torch.float32), (torch.float32, torch.float64)]:
        mixed = mapped(inputs, lambda x, other=other: x.to(other))
        mixed["logits"] = inputs["logits"].to(dtype)
        scores = call(refiner, mixed)
        assert scores.dtype == dtype
        assert torch.isfinite(scores).all()


def test_single_is_close_to_double(refiner):
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    double = call(refiner, mapped(inputs, torch.Tensor.double))
    close(call(refiner, inputs), double.float())


def test_strides_do_not_matter(refiner):
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    expected = call(refiner, inputs)

    def padded(x):
        room = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), float("nan"))
        room[..., 1::2] = x
        return room[..., 1::2]

    def channels_last(x):
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x

    def transposed(x):
        return x.mT.contiguous().mT

    for change in (padded, channels_last, transposed):
        close(call(refiner, mapped(inputs, change)), expected)


@only(lambda refiner: refiner.batched)
def test_expanded_inputs(refiner):
    """Stride 0: one image for a whole batch, without a copy."""
    one = mapped(refiner.inputs(1), torch.Tensor.float)
    many = {
        name: value * 3 if isinstance(value, list) else value.expand(3, *value.shape[1:])
        for name, value in one.items()
    }
    expected = call(refiner, one)
    close(call(refiner, many), expected.expand(3, *expected.shape[1:]))


@only(lambda refiner: refiner.batched)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_batch_is_a_loop(refiner, dtype):
    inputs = mapped(refiner.inputs(3), lambda x: x.to(dtype))
    loop = [call(refiner, item(inputs, i)) for i in range(3)]
    close(call(refiner, inputs), torch.cat(loop))


def test_deterministic(refiner):
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    same(call(refiner, inputs), call(refiner, inputs))


@dtypes
def test_inputs_are_left_alone(refiner, dtype):
    inputs = mapped(refiner.inputs(2), lambda x: x.to(dtype))
    before = mapped(inputs, torch.Tensor.clone)
    scores = call(refiner, inputs)
    scores.fill_(torch.nan)  # nor may the result share their memory
    for name, value in before.items():
        if isinstance(value, torch.Tensor):
            same(inputs[name], value)


# --------------------------------------------------------------------------- gradients


def gradients(refiner, wanted):
    inputs = refiner.inputs(2)
    names = list(wanted)

    def function(*tensors):
        return call(refiner, inputs | dict(zip(names, tensors, strict=True)))

    # Fast mode: random projections of the Jacobian in place of its every column.
    tensors = [inputs[name].clone().requires_grad_() for name in names]
    return gradcheck(function, tensors, fast_mode=True)


@only(lambda refiner: refiner.smooth)
def test_gradient_in_the_logits(refiner):
    assert gradients(refiner, ["logits"])


@only(lambda refiner: not refiner.smooth and "logits" not in refiner.fixed)
def test_what_has_no_gradient_says_so(refiner):
    """Rather than a gradient of zeros that looks like one."""
    inputs = mapped(refiner.inputs(2), lambda x: x.requires_grad_())
    assert not call(refiner, inputs).requires_grad


@only(lambda refiner: refiner.differentiable)
def test_gradient_in_the_other_inputs(refiner):
    assert gradients(refiner, refiner.differentiable)


@only(lambda refiner: refiner.fixed)
def test_a_gradient_that_is_refused(refiner):
    """Rather than left out in silence; where none is wanted, such an input may require one."""
    for name in refiner.fixed:
        inputs = refiner.inputs(2)
        inputs[name].requires_grad_()
        with pytest.raises(lpprop.InputError, match="requires a gradient") as refused:
            call(refiner, inputs)
        called = "x" if name == "logits" else name
        assert str(refused.value).startswith(f"{called}:")
        if "backend" in refiner.params:
            assert repr(refiner.params["backend"]) in str(refused.value)
        with torch.no_grad():
            same(call(refiner, inputs), call(refiner, refiner.inputs(2)))


@only(lambda refiner: "max_iter" in refiner.params)
def test_gradient_of_a_converged_solve(refiner):
    """There the derivative in the logits is the solution operator itself."""
    converged = refiner._replace(params=refiner.params | {"max_iter": 1000, "tol": 1e-12})
    assert gradients(converged, ["logits"])


@only(lambda refiner: refiner.smooth)
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32], ids=str)
def test_gradients_are_finite_in_every_dtype(refiner, dtype):
    inputs = mapped(refiner.inputs(2), lambda x: x.to(dtype).requires_grad_())
    inputs |= {name: inputs[name].detach() for name in refiner.fixed}
    # The mean, since the sum of so many squares leaves the range of float16.
    call(refiner, inputs).float().square().mean().backward()
    for name in ("logits", *refiner.differentiable):
        assert inputs[name].grad.dtype == dtype
        assert torch.isfinite(inputs[name].grad).all()
        assert inputs[name].grad.any()


def test_no_gradient_where_none_is_wanted(refiner):
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    assert not call(refiner, inputs).requires_grad
    with torch.no_grad():
        wanting = mapped(inputs, lambda x: x.clone().requires_grad_())
        assert not call(refiner, wanting).requires_grad


def test_autocast(refiner):
    """Autocast would round the solver's dot products to half; it is shut out."""
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    expected = call(refiner, inputs)
    with torch.autocast(inputs["logits"].device.type, dtype=torch.bfloat16):
        same(call(refiner, inputs), expected)


def test_inference_mode(refiner):
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    expected = call(refiner, inputs)
    with torch.inference_mode():
        same(call(refiner, inputs), expected)
        made_inside = mapped(inputs, torch.Tensor.clone)
        same(call(refiner, made_inside), expected)


# --------------------------------------------------------------------------- modules


def module_call(module, inputs):
    rest = dict(inputs)
    return module(rest.pop("logits"), **rest)


def test_module_is_the_function(refiner):
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    same(module_call(refiner.module(**refiner.params), inputs), call(refiner, inputs))


def test_module_defaults_are_the_functions(refiner):
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    needed = {name: refiner.params[name] for name in ("patch_size",) if name in refiner.params}
    plain = refiner._replace(params=needed)
    same(module_call(refiner.module(**needed), inputs), call(plain, inputs))


def test_module_ignores_what_it_does_not_use(refiner, device):
    """All modules are called alike in a chain."""
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    batch = len(inputs["logits"])
    unused = {
        "feats": torch.zeros(batch, 2, 3, 4, device=device),
        "attention": torch.zeros(batch, 12, 12, device=device),
    }
    if "windows" not in inputs and "image" not in inputs:
        unused["image"] = torch.zeros(batch, 3, 4, 5, device=device)
    module = refiner.module(**refiner.params)
    unused = {name: value for name, value in unused.items() if name not in module.needs}
    same(module_call(module, unused | inputs), call(refiner, inputs))


def test_repr_shows_the_configuration(refiner):
    text = repr(refiner.module(**refiner.params))
    for name, value in refiner.params.items():
        assert f"{name}={value!r}" in text


def test_unknown_options_are_refused(refiner):
    with pytest.raises((ValueError, TypeError), match="no_such_option"):
        refiner.module(**refiner.params, no_such_option=1)


def test_copies_and_pickles(refiner):
    inputs = mapped(refiner.inputs(2), torch.Tensor.float)
    module = refiner.module(**refiner.params)
    expected = module_call(module, inputs)
    for again in (copy.copy(module), copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(again) is type(module)
        assert repr(again) == repr(module)
        same(module_call(again, inputs), expected)


def test_state_round_trip(refiner):
    """Nothing is learnt: a checkpoint of a model that holds a refiner gains no entries."""
    module = refiner.module(**refiner.params)
    state = module.state_dict()
    assert not state
    refiner.module(**refiner.params).load_state_dict(state, strict=True)
    assert not list(module.parameters())
    assert module.eval().training is False
    assert repr(module.to(torch.float64)) == repr(refiner.module(**refiner.params))


def test_configured_by_keyword_only(refiner):
    """A signature that says what can be configured, for help() and editors."""
    parameters = inspect.signature(refiner.module).parameters.values()
    assert all(p.kind in (p.KEYWORD_ONLY, p.VAR_KEYWORD) for p in parameters)
