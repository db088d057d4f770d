"""The one-liner: every kind of input, method and window, each against its composition by hand."""

import functools
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import lpprop

GRID, PIXELS = (4, 5), (64, 80)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def scores_of(batch=1, grid=GRID, classes=3, **kwargs):
    return random(batch, classes, *grid, seed=1, **kwargs)


def feats_of(batch=1, grid=GRID, **kwargs):
    return random(batch, 8, *grid, seed=2, **kwargs) - 0.3


def picture_of(size=PIXELS):
    """Blocks of colour with noise, (H, W, 3) uint8."""
    rng = np.random.default_rng(3)
    blocks = rng.integers(0, 200, (size[0] // 16 + 1, size[1] // 16 + 1, 3))
    smooth = blocks.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]
    return (smooth + rng.integers(0, 50, smooth.shape)).astype(np.uint8)


def tensor_of(picture):
    return torch.from_numpy(picture).permute(2, 0, 1)[None] / 255


def lposs_by_hand(logits, feats, image, **options):
    patches = lpprop.propagate_patches(logits, feats, **options)
    return lpprop.bilinear_upsample(patches, tuple(image.shape[-2:]))


def lposs_plus_by_hand(logits, feats, image, **options):
    return lpprop.propagate_pixels(lposs_by_hand(logits, feats, image, **options), image)


def default_by_hand(logits, feats, image, **options):
    """As lposs_plus_by_hand, with settings that follow from the image."""
    auto = dict.fromkeys(("k", "gamma", "alpha"), "auto")
    patches = lposs_by_hand(logits, feats, image, **auto, **options)
    return lpprop.propagate_pixels(patches, image, alpha=0.9)


@pytest.fixture(scope="module")
def case():
    picture = picture_of()
    logits, feats, image = scores_of(), feats_of(), tensor_of(picture)
    return logits, feats, picture, default_by_hand(logits, feats, image)


# --------------------------------------------------------------------------- what it computes


@pytest.mark.parametrize("batch", [1, 2])
def test_the_default_and_lposs_plus_are_the_compositions_of_their_steps(batch):
    logits, feats, image = scores_of(batch), feats_of(batch), random(batch, 3, *PIXELS)
    default = lpprop.refine(logits, feats, image)
    assert torch.equal(default, default_by_hand(logits, feats, image))
    assert torch.equal(lpprop.refine(logits, feats, image, method="auto"), default)
    published = lposs_plus_by_hand(logits, feats, image)
    assert torch.equal(lpprop.refine(logits, feats, image, method="lposs+"), published)
    assert not torch.equal(default, published)


def test_lposs_is_the_patch_step_then_bilinear():
    logits, feats, image = scores_of(2), feats_of(2), random(2, 3, *PIXELS)
    expected = lposs_by_hand(logits, feats, image)
    assert torch.equal(lpprop.refine(logits, feats, image, method="lposs"), expected)
    # LPOSS needs no image: its size is enough.
    assert torch.equal(lpprop.refine(logits, feats, method="lposs", size=PIXELS), expected)


def test_options_go_to_the_preset(case):
    logits, feats, picture, default = case
    image = tensor_of(picture)
    options = {"k": 5, "gamma": 2.0, "sigma": 0.02, "alpha": 0.5}
    patches = lpprop.propagate_patches(logits, feats, **options)
    expected = lpprop.propagate_pixels(
        lpprop.bilinear_upsample(patches, PIXELS), image, alpha=0.5, tau=0.05, r=5
    )
    result = lpprop.refine(logits, feats, image, method="lposs+", **options, tau=0.05, r=5)
    assert torch.equal(result, expected)
    assert not torch.allclose(result, default)


@pytest.mark.parametrize("made_by", lpprop.presets.FEATS_FROM)
def test_feats_from_sets_the_published_values(made_by):
    settings = lpprop.presets.FEATS_FROM[made_by]
    patch = settings["patch_size"]
    logits, feats = scores_of(), feats_of()
    image = random(1, 3, GRID[0] * patch, GRID[1] * patch)
    result = lpprop.refine(logits, feats, image, method="lposs", feats_from=made_by)
    assert torch.equal(result, lposs_by_hand(logits, feats, image, **settings))


def test_logits_on_another_grid_are_resized_to_that_of_the_feats():
    logits, feats, image = scores_of(2, (8, 10)), feats_of(2), random(2, 3, *PIXELS)
    expected = lposs_by_hand(lpprop.bilinear_upsample(logits, GRID), feats, image)
    assert torch.equal(lpprop.refine(logits, feats, image, method="lposs"), expected)
    module = lpprop.PatchPropagation()
    assert torch.equal(lpprop.refine(logits, feats, image, method=module), expected)


@pytest.mark.parametrize("size", [(32, 40), (100, 90), [64, 80], torch.Size((1, 1))])
def test_size_is_that_of_the_result(case, size):
    logits, feats, picture, full = case
    result = lpprop.refine(logits, feats, picture, size=size)
    assert torch.equal(result, lpprop.bilinear_upsample(full, tuple(size)))


def test_pixel_feats_replace_lab():
    logits, feats, depth = scores_of(), feats_of(), random(1, 1, *PIXELS)
    patches = lposs_by_hand(logits, feats, depth)
    expected = lpprop.propagate_pixels(patches, None, pixel_feats=depth, tau=0.1)
    image = random(1, 3, *PIXELS, seed=9)
    for given in (depth, depth[0], depth.numpy(), depth[0].numpy()):
        result = lpprop.refine(logits, feats, image, pixel_feats=given, method="lposs+", tau=0.1)
        assert torch.equal(result, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_result_has_the_dtype_of_the_logits(case, dtype):
    logits, feats, picture, expected = case
    result = lpprop.refine(logits.to(dtype), feats, picture)
    assert result.dtype == dtype
    assert not result.requires_grad
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 6e-2, torch.float64: 1e-4}[dtype]
    torch.testing.assert_close(result.float(), expected, rtol=tolerance, atol=tolerance)


def test_inputs_stay_as_they_were(case):
    logits, feats, picture, _ = case
    before = logits.clone(), feats.clone(), picture.copy()
    lpprop.refine(logits, feats, picture)
    assert torch.equal(logits, before[0])
    assert torch.equal(feats, before[1])
    assert np.array_equal(picture, before[2])


# --------------------------------------------------------------------------- kinds of arrays


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


GRIDS = {
    "torch": lambda x: x,
    "torch-unbatched": lambda x: x[0],
    "torch-strided": lambda x: x.transpose(1, 3).contiguous().transpose(1, 3),
    "numpy": lambda x: x.numpy(),
    "numpy-unbatched": lambda x: x[0].numpy(),
    "numpy-float64": lambda x: x.numpy().astype(np.float64),
    "numpy-big-endian": lambda x: x.numpy().astype(">f4"),
    "numpy-negative-strides": lambda x: x.numpy()[..., ::-1, ::-1].copy()[..., ::-1, ::-1],
    "numpy-fortran": lambda x: np.asfortranarray(x.numpy()),
    "numpy-read-only": lambda x: read_only(x.numpy()),
    "numpy-read-only-big-endian": lambda x: read_only(x[0].numpy().astype(">f8")),
}


@pytest.mark.parametrize("convert", GRIDS.values(), ids=GRIDS)
def test_logits_and_feats_of_every_kind(case, convert):
    logits, feats, picture, expected = case
    result = lpprop.refine(convert(logits), convert(feats), picture)
    assert isinstance(result, torch.Tensor)
    assert result.shape == (1, 3, *PIXELS)
    torch.testing.assert_close(result.float(), expected, rtol=1e-4, atol=1e-4)


IMAGES = {
    "numpy-hwc-uint8": lambda p: p,
    "numpy-chw-uint8": lambda p: p.transpose(2, 0, 1),
    "numpy-bhwc-uint8": lambda p: p[None],
    "numpy-bchw-uint8": lambda p: p.transpose(2, 0, 1)[None],
    "numpy-hwc-float32": lambda p: p.astype(np.float32) / 255,
    "numpy-chw-float64": lambda p: p.transpose(2, 0, 1) / 255,
    "numpy-big-endian": lambda p: (p / 255).astype(">f4"),
    "numpy-negative-strides": lambda p: p[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1],
    "numpy-read-only": read_only,
    "numpy-bgr-reversed": lambda p: p[..., ::-1].copy()[..., ::-1],
    "torch-hwc-uint8": torch.from_numpy,
    "torch-chw-uint8": lambda p: torch.from_numpy(p).permute(2, 0, 1),
    "torch-bhwc-uint8": lambda p: torch.from_numpy(p)[None],
    "torch-bchw-float": tensor_of,
    "torch-chw-float64": lambda p: tensor_of(p)[0].double(),
    "torch-channels-last": lambda p: tensor_of(p).contiguous(memory_format=torch.channels_last),
    "pil-rgb": Image.fromarray,
    "pil-rgba": lambda p: Image.fromarray(np.dstack([p, p[..., 0]])),  # alpha is dropped
}


@pytest.mark.parametrize("convert", IMAGES.values(), ids=IMAGES)
def test_images_of_every_kind(case, convert):
    logits, feats, picture, expected = case
    result = lpprop.refine(logits, feats, convert(picture))
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA"])
def test_pil_modes_are_converted_to_rgb(case, mode):
    logits, feats, picture, _ = case
    image = Image.fromarray(picture).convert(mode)
    expected = lpprop.refine(logits, feats, np.array(image.convert("RGB")))
    assert torch.equal(lpprop.refine(logits, feats, image), expected)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pil_modes_of_more_than_8_bits_are_refused(case, mode):
    logits, feats, _, _ = case
    with pytest.raises(lpprop.InputError, match=f"^image: got a PIL image of mode '{mode}'"):
        lpprop.refine(logits, feats, Image.new(mode, PIXELS[::-1]))


def test_pil_and_uint8_are_the_same_picture_in_float64(case):
    _, _, picture, _ = case
    logits, feats = scores_of(dtype=torch.float64), feats_of(dtype=torch.float64)
    expected = lpprop.refine(logits, feats, picture.astype(np.float64) / 255)
    for image in (picture, Image.fromarray(picture)):
        torch.testing.assert_close(
            lpprop.refine(logits, feats, image), expected, rtol=1e-12, atol=1e-12
        )


def test_batches_of_pictures_and_unbatched_items_agree():
    logits, feats = scores_of(2), feats_of(2)
    pictures = np.stack([picture_of(), picture_of()[::-1]])
    batch = lpprop.refine(logits, feats, pictures)
    for item in (0, 1):
        alone = lpprop.refine(logits[item], feats[item].numpy(), pictures[item])
        torch.testing.assert_close(alone[0], batch[item], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 16, 3), (1, 3, 16, 3), (3, 3, 3)])
def test_an_array_that_can_be_read_both_ways_is_refused(shape):
    logits, feats = scores_of(grid=(1, 1)), feats_of(grid=(1, 1))
    with pytest.raises(lpprop.InputError, match="can be read both ways"):
        lpprop.refine(logits, feats, np.zeros(shape, np.uint8))


def test_a_tensor_that_can_be_read_both_ways_is_channels_first():
    logits, feats = scores_of(grid=(4, 1)), feats_of(grid=(4, 1))
    image = random(3, 12, 3)
    result = lpprop.refine(logits, feats, image, patch_size=3)
    assert torch.equal(result, default_by_hand(logits, feats, image[None], patch_size=3))


def test_a_pil_image_three_pixels_wide_is_not_mistaken():
    logits, feats = scores_of(grid=(4, 1)), feats_of(grid=(4, 1))
    picture = picture_of((12, 3))
    result = lpprop.refine(logits, feats, Image.fromarray(picture), patch_size=3)
    expected = default_by_hand(logits, feats, tensor_of(picture), patch_size=3)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


# --------------------------------------------------------------------------- kinds of methods


class Halve(nn.Module):
    def forward(self, logits, *, feats, image, attention):
        return logits / 2


class Call:
    def __call__(self, logits, *, feats, image, attention):
        return logits / 2


def halve(logits, *, feats, image, attention):
    return logits / 2


def divide(by, logits, *, feats, image, attention):
    return logits / by


OWN = {
    "function": halve,
    "lambda": lambda logits, **inputs: logits / 2,
    "partial": functools.partial(divide, 2),
    "bound-method": Halve().forward,
    "object": Call(),
    "module": Halve(),
    "chain": lpprop.Chain(halve),
    "nested": lpprop.Chain(lpprop.Chain(Halve())),
}


@pytest.mark.parametrize("method", OWN.values(), ids=OWN)
def test_a_method_of_ones_own_on_the_patch_grid_is_upsampled(method):
    logits, image = scores_of(2), random(2, 3, *PIXELS)
    expected = lpprop.bilinear_upsample(logits / 2, PIXELS)
    assert torch.equal(lpprop.refine(logits, None, image, method=method), expected)
    assert torch.equal(lpprop.refine(logits, size=PIXELS, method=method), expected)


def test_a_method_that_returns_the_target_size_is_left_alone():
    full = random(1, 3, *PIXELS)
    result = lpprop.refine(scores_of(), size=PIXELS, method=lambda logits, **inputs: full)
    assert result is full


METHODS = {
    "preset": lpprop.presets.lposs(k=7),
    "chain": lpprop.Chain(lpprop.PatchPropagation(k=7), lpprop.BilinearUpsample()),
    "module": lpprop.PatchPropagation(k=7),
    "function": lambda logits, *, feats, image, attention: lpprop.propagate_patches(
        logits, feats, k=7
    ),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_one_method_however_it_is_given(method):
    logits, feats, image = scores_of(2), feats_of(2), random(2, 3, *PIXELS)
    expected = lpprop.refine(logits, feats, image, method="lposs", k=7)
    assert torch.equal(lpprop.refine(logits, feats, image, method=method), expected)


@pytest.mark.parametrize("name", [preset.__name__ for preset in lpprop.presets.METHODS.values()])
def test_a_preset_is_also_known_by_its_function_name(case, name):
    if name == "dense_crf":
        pytest.importorskip("pydensecrf")
    logits, feats, picture, _ = case
    preset, image = getattr(lpprop.presets, name), tensor_of(picture)
    others = {"regions": (4 * image[:, 0]).long()} if "regions" in preset.needs else {}
    expected = preset()(logits, feats=feats, image=image, **others)
    assert torch.equal(lpprop.refine(logits, feats, picture, method=name, **others), expected)


class Counter:
    """A step that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, logits, *, feats, image, attention, windows=None):
        self.calls += 1
        return logits


class Recorder:
    """A method that keeps what it was given."""

    def __call__(self, logits, *, feats, image, attention):
        self.seen = {"logits": logits, "feats": feats, "image": image, "attention": attention}
        return logits


ARRAYS = {
    "torch": lambda x: x,
    "torch-strided": lambda x: x.mT.contiguous().mT,
    "numpy": lambda x: x.numpy(),
    "numpy-big-endian": lambda x: x.numpy().astype(">f4"),
    "numpy-negative-strides": lambda x: x.numpy()[..., ::-1].copy()[..., ::-1],
    "numpy-read-only": lambda x: read_only(x.numpy()),
}


@pytest.mark.parametrize("shape", [(20, 20), (2, 20, 20), (2, 4, 20, 20)])
@pytest.mark.parametrize("convert", ARRAYS.values(), ids=ARRAYS)
def test_attention_reaches_the_method(shape, convert):
    batch = shape[0] if len(shape) > 2 else 1
    attention, method = random(*shape), Recorder()
    lpprop.refine(scores_of(batch), attention=convert(attention), size=PIXELS, method=method)
    expected = attention if len(shape) > 2 else attention[None]
    assert torch.equal(method.seen["attention"], expected)


DISCREPANCIES = ["optimal_path", "max_velocity", "kl", "fusion"]


@pytest.mark.parametrize("name", DISCREPANCIES)
def test_discrepancies_from_feats_or_from_attention(name):
    logits, feats, image = scores_of(2), feats_of(2), random(2, 3, *PIXELS)
    chain = lpprop.presets.METHODS[name]()
    expected = chain(logits, feats=feats, image=image)
    assert torch.equal(lpprop.refine(logits, feats, image, method=name), expected)
    assert torch.equal(lpprop.refine(logits, feats, image, method=chain), expected)
    attention = lpprop.attention_from_features(feats)
    got = lpprop.refine(logits, attention=attention, image=image, method=name)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("name", DISCREPANCIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_holds_the_maps_of_a_real_grid(name, dtype):
    """Paths are near 1/N^2, which float16 cannot hold: the presets bring them near 1."""
    logits, feats = scores_of(1, grid=(28, 28)), feats_of(1, grid=(28, 28))
    image = random(1, 3, 112, 112)
    half = [x.to(dtype) for x in (logits, feats, image)]
    scores = lpprop.refine(*half, method=name)
    assert scores.dtype == dtype
    expected = lpprop.refine(*(x.float() for x in half), method=name)
    assert (scores.argmax(1) == expected.argmax(1)).float().mean() > 0.95
    torch.testing.assert_close(scores.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.filterwarnings("ignore:logits. got scores that differ by at most:UserWarning")
@pytest.mark.parametrize("name", DISCREPANCIES)
@pytest.mark.parametrize("options", [{"nms": 0}, {"early_rejection": True}], ids=str)
def test_a_backward_pass_where_all_arrive_at_once(name, options):
    """Equal scores: uniform distributions, and all classes but the first rejected."""
    logits, feats = torch.zeros(1, 3, 4, 5, requires_grad=True), feats_of(1).requires_grad_()
    image = random(1, 3, *PIXELS)
    lpprop.refine(logits, feats, image, method=name, **options).sum().backward()
    assert torch.isfinite(logits.grad).all()
    if name != "kl":
        assert torch.isfinite(feats.grad).all()


@pytest.mark.parametrize("function", [lpprop.optimal_path, lpprop.max_velocity])
def test_a_backward_pass_where_all_classes_are_rejected(function):
    f = torch.zeros(1, 2, 6, requires_grad=True)
    attention = torch.full((1, 6, 6), 1 / 6, requires_grad=True)
    function(f, attention).sum().backward()
    assert torch.isfinite(f.grad).all()
    assert not attention.grad.any()


def rows_of_1(attention):
    return attention / attention.sum(-1, keepdim=True)


@pytest.mark.parametrize("heads", [None, 4])
@pytest.mark.parametrize("grid", [GRID, (8, 10)])
@pytest.mark.parametrize("convert", ARRAYS.values(), ids=ARRAYS)
def test_attention_of_every_kind(heads, grid, convert):
    patches = grid[0] * grid[1]
    shape = (2, patches, patches) if heads is None else (2, heads, patches, patches)
    logits, image = scores_of(2), random(2, 3, *PIXELS)
    attention = rows_of_1(random(*shape) + 0.1)
    one = attention if heads is None else lpprop.aggregate_attention([attention], grids=[grid])
    f = lpprop.class_distribution(lpprop.bilinear_upsample(logits, grid), nms=0.5)
    path = lpprop.optimal_path(f, one, epsilon=0.05, norm="class")
    expected = lpprop.joint_bilateral_upsample(path.unflatten(2, grid), image)
    options = {"nms": 0.5, "early_rejection": False, "epsilon": 0.05, "norm": "class"}
    options |= {"complement": False}
    result = lpprop.refine(
        logits, attention=convert(attention), image=image, method="optimal_path", **options
    )
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)


def test_attention_of_one_item_needs_no_batch_axis():
    logits, image, attention = scores_of(), random(1, 3, *PIXELS), rows_of_1(random(20, 20))
    expected = lpprop.refine(logits, attention=attention[None], image=image, method="max_velocity")
    result = lpprop.refine(
        logits[0].numpy(), attention=attention.numpy(), image=image[0], method="max_velocity"
    )
    assert torch.equal(result, expected)


def test_discrepancies_do_not_ask_how_large_a_patch_is():
    """Nothing in them is a distance in pixels: no warning, whatever the image's size."""
    logits, feats, image = scores_of(), feats_of(), random(1, 3, 320, 400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = lpprop.refine(logits, feats, image, method="optimal_path", size=(20, 30))
    full = lpprop.presets.optimal_path()(logits, feats=feats, image=image)
    assert torch.equal(result, lpprop.bilinear_upsample(full, (20, 30)))


def test_gradients_reach_attention_and_feats():
    logits, feats, image = scores_of(), feats_of(), random(1, 3, *PIXELS)
    attention = rows_of_1(random(1, 4, 20, 20)).requires_grad_()
    lpprop.refine(
        logits, attention=attention, image=image, method="fusion", nms=0
    ).square().sum().backward()
    assert torch.isfinite(attention.grad).all()
    assert attention.grad.any(-1).all()
    feats.requires_grad_()
    lpprop.refine(logits, feats, image, method="fusion", nms=0).square().sum().backward()
    assert torch.isfinite(feats.grad).all()
    assert feats.grad.any(1).all()


def test_a_method_sees_tensors_with_a_batch_axis(case):
    logits, feats, picture, _ = case
    method = Recorder()
    lpprop.refine(logits[0].numpy(), feats[0].numpy(), picture, method=method)
    assert torch.equal(method.seen["logits"], logits)
    assert torch.equal(method.seen["feats"], feats)
    assert torch.equal(method.seen["image"], tensor_of(picture))
    assert method.seen["attention"] is None


# --------------------------------------------------------------------------- windows

IMAGE_SIZE = (80, 112)


def windowed(window=64, stride=32, patch=16):
    windows = lpprop.SlidingWindows(IMAGE_SIZE, window, stride)
    grid = (windows.crop_size[0] // patch, windows.crop_size[1] // patch)
    return windows, scores_of(len(windows), grid), feats_of(len(windows), grid)


def windows_by_hand(windows, logits, feats, image, **options):
    patches = lpprop.propagate_patches(logits, feats, windows=windows, **options)
    return lpprop.propagate_pixels(windows.merge(patches), image)


def test_windows_share_a_graph_are_merged_and_then_refined_by_pixels():
    (windows, logits, feats), image = windowed(), random(1, 3, *IMAGE_SIZE)
    expected = windows_by_hand(windows, logits, feats, image)
    result = lpprop.refine(logits, feats, image, windows=windows)
    assert result.shape == (1, 3, *IMAGE_SIZE)
    assert torch.equal(result, expected)
    picture = (image[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    result = lpprop.refine(logits.numpy(), feats.numpy(), picture, windows=windows, size=(40, 56))
    assert result.shape == (1, 3, 40, 56)


def test_windows_know_the_size_where_there_is_no_image():
    windows, logits, feats = windowed()
    expected = windows.merge(lpprop.propagate_patches(logits, feats, windows=windows))
    result = lpprop.refine(logits, feats, windows=windows, method="lposs")
    assert torch.equal(result, expected)


def test_windows_of_a_method_that_does_not_merge_are_merged_after_it():
    windows, logits, feats = windowed()
    expected = windows.merge(lpprop.propagate_patches(logits, feats, windows=windows))
    module = lpprop.PatchPropagation()
    assert torch.equal(lpprop.refine(logits, feats, windows=windows, method=module), expected)

    def own(logits, *, feats, image, attention, windows):
        return lpprop.propagate_patches(logits, feats, windows=windows)

    assert torch.equal(lpprop.refine(logits, feats, windows=windows, method=own), expected)


def test_logits_of_windows_on_another_grid_than_the_feats():
    (windows, _, feats), image = windowed(), random(1, 3, *IMAGE_SIZE)
    logits = scores_of(len(windows), (7, 7))
    resized = lpprop.bilinear_upsample(logits, tuple(feats.shape[-2:]))
    expected = windows_by_hand(windows, resized, feats, image)
    assert torch.equal(lpprop.refine(logits, feats, image, windows=windows), expected)


@pytest.mark.parametrize("collect", [list, tuple])
def test_a_window_ensemble_is_the_mean_of_its_refined_scores(collect):
    small, large = windowed(64, 32), windowed(80, 32)
    image = random(1, 3, *IMAGE_SIZE)
    expected = torch.stack([windows_by_hand(*setting, image) for setting in (small, large)]).mean(0)
    windows, logits, feats = (collect(pair) for pair in zip(small, large, strict=True))
    result = lpprop.refine(logits, feats, image, windows=windows)
    assert torch.equal(result, expected)
    result = lpprop.refine(logits, feats, image, windows=windows, size=(40, 56), method="lposs")
    assert result.shape == (1, 3, 40, 56)


def test_a_window_ensemble_without_feats():
    small, large = windowed(64, 32), windowed(80, 32)
    windows, logits, _ = zip(small, large, strict=True)

    def identity(logits, *, feats, image, attention, windows):
        assert feats is None
        return logits

    expected = (small[0].merge(small[1]) + large[0].merge(large[1])) / 2
    torch.testing.assert_close(lpprop.refine(logits, windows=windows, method=identity), expected)


# --------------------------------------------------------------------------- patch sizes


def test_distances_are_scaled_with_a_warning_where_the_image_is_larger():
    logits, feats, image = scores_of(), feats_of(), random(1, 3, 128, 160)
    with pytest.warns(UserWarning, match="the feats' grid") as caught:
        result = lpprop.refine(logits, feats, image, method="lposs", k=5)
    assert torch.equal(result, lposs_by_hand(logits, feats, image, k=5, patch_size=32.0))
    assert [str(warning.message) for warning in caught] == [
        "the feats' grid of 4 x 5 patches of 16 pixels spans 64 x 80 pixels, not 128 x 160: "
        "distances are taken as if patches had 32. Pass patch_size=32 if that is right; if the "
        "backbone saw a resized image, pass that one as image and the full size as size=."
    ]
    assert caught[0].filename == __file__  # it points at the user's line


@pytest.mark.parametrize(
    ("options", "pixels", "patch"),
    [
        ({}, (128, 160), 32.0),
        ({}, (32, 40), 8.0),
        ({"feats_from": "dinov2"}, (128, 160), 32.0),
        ({"patch_size": 8}, (48, 60), 12.0),
        ({}, (130, 160), (130 * 160 / 20) ** 0.5),  # nearly square: the ratio of the areas
    ],
)
def test_the_scaled_patch_size(options, pixels, patch):
    logits, feats, image = scores_of(), feats_of(), random(1, 3, *pixels)
    with pytest.warns(UserWarning, match=f"as if patches had {patch:.4g}"):
        result = lpprop.refine(logits, feats, image, method="lposs", **options)
    settings = {"gamma": 7.0} if options.get("feats_from") == "dinov2" else {}
    expected = lposs_by_hand(logits, feats, image, patch_size=patch, **settings)
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-6)


def test_the_patch_size_that_the_warning_names_silences_it():
    logits, feats, image = scores_of(), feats_of(), random(1, 3, 128, 160)
    result = lpprop.refine(logits, feats, image, method="lposs", patch_size=32)
    assert torch.equal(result, lposs_by_hand(logits, feats, image, patch_size=32))


@pytest.mark.parametrize("pixels", [(79, 65), (49, 95), (70, 75), (65, 80)])
def test_less_than_a_patch_of_difference_warns_and_keeps_the_patch_size(pixels):
    logits, feats, image = scores_of(), feats_of(), random(1, 3, *pixels)
    with pytest.warns(lpprop.InputWarning, match=r"pass span=\(64, 80\)") as caught:
        result = lpprop.refine(logits, feats, image, method="lposs", k=5)
    assert torch.equal(result, lposs_by_hand(logits, feats, image, k=5))
    assert len(caught) == 1


@pytest.mark.parametrize("pixels", [(64, 160), (20, 400), (320, 80)])
def test_an_image_that_no_single_ratio_fits_is_refused(pixels):
    counter = Counter()
    method = lpprop.Chain(counter, lpprop.PatchPropagation())
    with pytest.raises(
        lpprop.InputError, match=f"^feats: got a grid of 4 x 5 patches for {pixels[0]} x"
    ):
        lpprop.refine(scores_of(), feats_of(), random(1, 3, *pixels), method=method)
    assert counter.calls == 0


def test_every_patch_step_of_a_method_is_fitted():
    logits, feats, image = scores_of(), feats_of(), random(1, 3, 128, 160)
    step = lpprop.PatchPropagation(k=5)
    twice = lpprop.Chain(step, lpprop.Chain(step, lpprop.BilinearUpsample()))
    with pytest.warns(UserWarning, match="as if patches had 32"):
        result = lpprop.refine(logits, feats, image, method=twice)
    once = lpprop.propagate_patches(logits, feats, k=5, patch_size=32.0)
    assert torch.equal(result, lposs_by_hand(once, feats, image, k=5, patch_size=32.0))
    assert step.patch_size == 16  # the caller's own module stays as it was


def test_distances_of_windows_are_fitted_to_the_window():
    windows = lpprop.SlidingWindows((160, 224), 128, 64)
    logits, feats = scores_of(len(windows), (4, 4)), feats_of(len(windows), (4, 4))
    with pytest.warns(UserWarning, match="not 128 x 128: .* as if patches had 32"):
        result = lpprop.refine(logits, feats, windows=windows, method="lposs")
    patches = lpprop.propagate_patches(logits, feats, windows=windows, patch_size=32.0)
    assert torch.equal(result, windows.merge(patches))


def test_without_image_and_windows_the_patch_size_is_taken_as_it_stands():
    logits, feats = scores_of(), feats_of()
    result = lpprop.refine(logits, feats, size=(300, 300), method="lposs")
    patches = lpprop.propagate_patches(logits, feats)
    assert torch.equal(result, lpprop.bilinear_upsample(patches, (300, 300)))


# --------------------------------------------------------------------------- gradients, subclasses


def test_gradients_reach_the_logits():
    logits = scores_of().requires_grad_()
    lpprop.refine(logits, feats_of(), random(1, 3, *PIXELS)).square().sum().backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad != 0).all()


def test_a_chain_of_ones_own_kind_stays_one_when_it_is_fitted():
    class Negated(lpprop.Chain):
        def forward(self, logits, **inputs):
            return -super().forward(logits, **inputs)

    logits, feats, image = scores_of(), feats_of(), random(1, 3, 128, 160)
    method = Negated(lpprop.PatchPropagation(), lpprop.BilinearUpsample())
    with pytest.warns(UserWarning, match="as if patches had 32"):
        result = lpprop.refine(logits, feats, image, method=method)
    assert torch.equal(result, -lposs_by_hand(logits, feats, image, patch_size=32.0))
