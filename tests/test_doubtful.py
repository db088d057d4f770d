"""Doubtful input: what is refused, what warns, and that sane input never does."""

import re
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import lpprop
from lpprop._core.errors import collect_warnings, warn

METHODS = ["auto", "lposs", "lposs+", "max_velocity", "joint_bilateral", "pamr", "bilinear"]


def scene(height, width, classes=5, patch=16, seed=0):
    """Discs in a picture: their labels, the image, noisy patch scores, features that tell discs."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    labels = torch.zeros(height, width, dtype=torch.long)
    for c in range(1, classes):
        cy, cx, radius = torch.rand(3, generator=generator)
        inside = (y - cy * height) ** 2 + (x - cx * width) ** 2
        labels[inside < ((0.15 + 0.15 * radius) * min(height, width)) ** 2] = c
    colours = torch.rand(classes, 3, generator=generator)
    noise = 0.03 * torch.randn(1, 3, height, width, generator=generator)
    image = (colours[labels].permute(2, 0, 1)[None] + noise).clamp(0, 1)
    one_hot = F.one_hot(labels, classes).permute(2, 0, 1)[None].float()
    share = F.interpolate(one_hot, (height // patch, width // patch), mode="area")
    directions = torch.randn(classes, 64, generator=generator)
    feats = torch.einsum("bchw,cd->bdhw", share, directions)
    feats = feats + 0.3 * torch.randn(feats.shape, generator=generator)
    return labels, image, share + 0.5 * torch.randn(share.shape, generator=generator), feats


def accuracy(scores, labels):
    return float((scores.argmax(1)[0] == labels).float().mean())


LABELS, IMAGE, LOGITS, FEATS = scene(128, 160)


# --------------------------------------------------------------------------- sane input


@pytest.mark.parametrize("method", METHODS)
def test_sane_input_never_warns(method):
    options = {"k": 10} if method in ("lposs", "lposs+") else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (None, (64, 80), (256, 320), (300, 300)):
            lpprop.refine(LOGITS, FEATS, IMAGE, method=method, size=size, **options)
        lpprop.refine(LOGITS.numpy()[0], FEATS.numpy()[0], IMAGE[0], method=method, **options)
        lpprop.refine(LOGITS.softmax(1), FEATS, IMAGE, method=method, **options)
        lpprop.refine(100 * LOGITS, FEATS, IMAGE, method=method, **options)


@pytest.mark.parametrize("side", [97, 100, 111, 112, 113, 127])
@pytest.mark.parametrize("method", ["max_velocity", "pamr", "bilinear"])
def test_a_grid_that_spans_the_image_to_within_a_patch_never_warns(side, method):
    for cells in (-(-side // 16), side // 16):
        logits, feats = torch.rand(1, 3, cells, 7), torch.rand(1, 8, cells, 7)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lpprop.refine(logits, feats, torch.rand(1, 3, side, 112), method=method)


def test_a_warning_of_a_kind_comes_once_per_call_and_points_here():
    feats, image = torch.zeros(1, 8, 4, 5), torch.rand(1, 3, 128, 160)
    with pytest.warns(lpprop.InputWarning) as caught:
        lpprop.refine(torch.rand(1, 1, 4, 5), feats, image, k=5)
    kinds = [str(x.message).partition(":")[0] for x in caught]
    expected = ["logits", "feats", "the feats' grid of 4 x 5 patches of 16 pixels spans 64 x 80 "
                "pixels, not 128 x 160"]  # fmt: skip
    assert kinds == expected
    assert {x.filename for x in caught} == {__file__}
    with pytest.warns(lpprop.InputWarning) as again:
        lpprop.refine(torch.rand(1, 1, 4, 5), feats, image, k=5)
    assert len(again) == 3


def test_regions_that_vote_on_the_grid_of_patches():
    given = {"image": IMAGE, "regions": LABELS[None]}
    with pytest.warns(lpprop.InputWarning, match="logits: got scores on 8 x 10 for an image of"):
        lpprop.refine(LOGITS, **given, method=lpprop.RegionVote())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lpprop.refine(
            LOGITS, **given, method=lpprop.Chain(lpprop.BilinearUpsample(), lpprop.RegionVote())
        )


def test_regions_of_pixels_for_scores_of_patches_need_the_image():
    regions = LABELS[None]
    given = {"regions": regions, "size": tuple(LABELS.shape), "method": "region_vote"}
    with pytest.warns(lpprop.InputWarning, match="regions: got 128 x 160 pixels .+ on 8 x 10, and"):
        coarse = lpprop.refine(LOGITS, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine = lpprop.refine(LOGITS, image=IMAGE, **given)
        pixels = lpprop.bilinear_upsample(LOGITS, given["size"])
        assert torch.equal(lpprop.refine(pixels, **given), fine)
        lpprop.refine(LOGITS, **given | {"regions": regions[:, ::16, ::16]})
    assert accuracy(coarse, LABELS) < accuracy(fine, LABELS)


def test_warnings_can_be_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", lpprop.InputWarning)
        with pytest.raises(lpprop.InputWarning, match="a single class"):
            lpprop.refine(torch.rand(1, 1, 8, 10), FEATS, IMAGE, method="pamr")


def test_messages_are_collected_once_each():
    with collect_warnings(shown=False) as collected:
        for message in ("a", "b", "a"):
            warn("test", message)
    assert collected == ["a", "b"]
    with pytest.warns(lpprop.InputWarning, match="c"), collect_warnings() as collected:
        warn("test", "c")
    assert collected == ["c"]


# --------------------------------------------------------------------------- axes


def tokens_of(grid, extra=0):
    """The grid's vectors in rows, after `extra` ones that are not of patches."""
    rows = grid.flatten(2).mT
    return torch.cat([torch.randn(1, extra, rows.shape[2]), rows], 1) if extra else rows


SQUARE = scene(224, 224)
MISTAKES = {
    "tokens": lambda x: tokens_of(x),
    "tokens without a batch": lambda x: tokens_of(x)[0],
    "tokens in columns": lambda x: x.flatten(2),
    "a class token": lambda x: tokens_of(x, 1),
    "a class token in columns": lambda x: tokens_of(x, 1).mT,
    "registers": lambda x: tokens_of(x, 5),
    "channels last": lambda x: x.movedim(1, -1),
    "channels last without a batch": lambda x: x[0].movedim(0, -1),
    "an array, channels last": lambda x: x[0].movedim(0, -1).numpy(),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("name", ["logits", "feats"])
def test_the_advice_for_axes_in_another_order_gives_the_right_scores(name, mistake, method):
    _, image, logits, feats = SQUARE
    given = {"logits": logits, "feats": feats}
    options = {"k": 10} if method in ("lposs", "lposs+") else {}
    expected = lpprop.refine(**given, image=image, method=method, **options)
    wrong = MISTAKES[mistake](given[name])
    with pytest.raises(lpprop.InputError, match=rf"^{name}: got shape \(") as error:
        lpprop.refine(**given | {name: wrong}, image=image, method=method, **options)
    # Where 64 channels may as well be tokens, the advice has both readings.
    advice = re.findall(
        r"torch\.as_tensor.*?unflatten\(-1, \(\d+, \d+\)\)|\w+\.movedim\(-1, -3\)", str(error.value)
    )
    values = {"torch": torch, name: torch.as_tensor(wrong)}
    mended = [eval(expression, values) for expression in advice]
    (right,) = [x for x in mended if x.shape[-3:] == given[name].shape[1:]]
    result = lpprop.refine(**given | {name: right}, image=image, method=method, **options)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["logits", "feats"])
def test_height_and_width_swapped_are_told_by_every_method(name, method):
    given = {"logits": LOGITS, "feats": FEATS}
    given[name] = given[name].mT
    with pytest.raises(lpprop.InputError, match=rf"^{name}: got .*Height and width look swapped"):
        lpprop.refine(**given, image=IMAGE, method=method)


@pytest.mark.parametrize("size", [(160, 128), (320, 256), [1600, 1280]])
def test_a_size_of_width_and_height_is_told(size):
    match = rf"^size: .*pass size=\({size[1]}, {size[0]}\)\.$"
    with pytest.raises(lpprop.InputError, match=match):
        lpprop.refine(LOGITS, FEATS, IMAGE, size=size)


@pytest.mark.parametrize("method", ["max_velocity", "pamr", "joint_bilateral", "bilinear"])
def test_patches_that_are_not_square_warn_unless_the_span_says_so(method):
    """A model that squashes images to a square gives such grids."""
    logits, feats, image = torch.rand(1, 3, 14, 14), torch.rand(1, 8, 14, 14), scene(96, 128)[1]
    with pytest.warns(lpprop.InputWarning, match=r"span=\(96, 128\)") as caught:
        result = lpprop.refine(logits, feats, image, method=method)
    assert len(caught) == 2  # the grids of logits and feats
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = lpprop.refine(logits, feats, image, method=method, span=(96, 128))
    assert torch.equal(result, again)


# --------------------------------------------------------------------------- span


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", [100, 209])
def test_a_span_beyond_the_image_is_the_padded_frame_cut(method, side):
    frame = -(-side // 16) * 16
    labels, image, logits, feats = scene(frame, frame, seed=4)
    image = image[..., :side, :side]
    missing = (0, frame - side, 0, frame - side)
    options = {"k": 10} if method in ("lposs", "lposs+") else {}
    framed = F.pad(image, missing, mode="replicate")
    expected = lpprop.refine(logits, feats, framed, method=method, **options)
    result = lpprop.refine(logits, feats, image, method=method, span=(frame, frame), **options)
    assert torch.equal(result, expected[..., :side, :side])
    with collect_warnings(shown=False):
        plain = lpprop.refine(logits, feats, image, method=method, **options)
    labels = labels[:side, :side]
    assert accuracy(result, labels) > accuracy(plain, labels)
    larger = lpprop.refine(
        logits, feats, image, method=method, span=(frame, frame), size=(300, 300), **options
    )
    assert torch.equal(larger, lpprop.bilinear_upsample(result, (300, 300)))


@pytest.mark.parametrize("method", METHODS)
def test_a_span_within_the_image_repeats_the_last_scores(method):
    _, image, logits, feats = scene(96, 112)
    wider = F.pad(image, (0, 5, 0, 9), value=0.5)
    options = {"k": 10} if method in ("lposs", "lposs+") else {}
    expected = lpprop.refine(logits, feats, image, method=method, **options)
    result = lpprop.refine(logits, feats, wider, method=method, span=(96, 112), **options)
    assert torch.equal(result, F.pad(expected, (0, 5, 0, 9), mode="replicate"))


def test_a_span_without_an_image_is_in_pixels_of_the_result():
    result = lpprop.refine(LOGITS, size=(120, 150), span=(128, 160), method="bilinear")
    assert torch.equal(result, lpprop.bilinear_upsample(LOGITS, (128, 160))[..., :120, :150])


def test_pixel_features_are_covered_as_the_image_is():
    depth = torch.rand(1, 1, 120, 150)
    padded = F.pad(depth, (0, 10, 0, 8), mode="replicate")
    image = IMAGE[..., :120, :150]
    framed = F.pad(image, (0, 10, 0, 8), mode="replicate")
    expected = lpprop.refine(LOGITS, FEATS, framed, pixel_feats=padded, k=10)
    given = {"pixel_feats": depth, "span": (128, 160), "k": 10}
    result = lpprop.refine(LOGITS, FEATS, image, **given)
    assert torch.equal(result, expected[..., :120, :150])


@pytest.mark.parametrize(("side", "patch"), [(100, 16), (209, 16), (130, 14)])
def test_a_remainder_warns_where_the_patch_size_is_known(side, patch):
    frame = -(-side // patch) * patch
    _, image, logits, feats = scene(frame, frame, patch=patch)
    with pytest.warns(lpprop.InputWarning, match=rf"pass span=\({frame}, {frame}\)") as caught:
        lpprop.refine(
            logits, feats, image[..., :side, :side], method="lposs", k=5, patch_size=patch
        )
    assert len(caught) == 1


# --------------------------------------------------------------------------- classes


@pytest.mark.parametrize("method", METHODS)
def test_a_class_at_minus_infinity_stays_out(method):
    logits = LOGITS.clone()
    logits[:, 3] = -torch.inf
    others = [0, 1, 2, 4]
    options = {"k": 10} if method in ("lposs", "lposs+") else {}
    expected = lpprop.refine(LOGITS[:, others], FEATS, IMAGE, method=method, **options)
    result = lpprop.refine(logits, FEATS, IMAGE, method=method, **options)
    assert torch.equal(result[:, others], expected)
    assert (result[:, 3] == -torch.inf).all()


def test_classes_left_out_of_a_batch_of_windows_and_of_a_gradient():
    windows = lpprop.SlidingWindows((128, 160), 64, 32)
    logits, feats = torch.rand(len(windows), 3, 4, 4), torch.rand(len(windows), 8, 4, 4)
    masked = torch.cat([logits, torch.full_like(logits[:, :1], -torch.inf)], 1).requires_grad_()
    logits.requires_grad_()
    result = lpprop.refine(masked, feats, IMAGE, windows=windows, k=10)
    assert torch.equal(result[:, :3], lpprop.refine(logits, feats, IMAGE, windows=windows, k=10))
    result[:, :3].sum().backward()
    assert torch.isfinite(masked.grad).all()
    assert not masked.grad[:, 3].any()


def test_compare_leaves_the_class_out_too():
    logits = LOGITS.clone()
    logits[:, 3] = -torch.inf
    found = lpprop.compare(logits, FEATS, IMAGE, methods=["pamr", "bilinear"], repeats=1)
    expected = lpprop.refine(logits, FEATS, IMAGE, method="pamr").argmax(1)[0].numpy()
    assert np.array_equal(found.labels["pamr"], expected)
    assert not (found.start == 3).any()
    assert len(found.class_names) == 5


@pytest.mark.parametrize("method", METHODS)
def test_the_advice_for_minus_infinity_at_some_patches_works(method):
    logits = LOGITS.clone()
    logits[0, 2, :3] = -torch.inf
    with pytest.raises(lpprop.InputError, match=r"clamp\(min=") as error:
        lpprop.refine(logits, FEATS, IMAGE, method=method)
    advice = str(error.value).partition("-inf with ")[2].partition(", the lowest")[0]
    mended = eval(advice, {"logits": logits})
    options = {"k": 10} if method in ("lposs", "lposs+") else {}
    assert torch.isfinite(lpprop.refine(mended, FEATS, IMAGE, method=method, **options)).all()


def test_the_advice_for_other_values_works():
    logits = LOGITS.clone()
    logits[0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    with pytest.raises(lpprop.InputError, match=r"torch.nan_to_num\(") as error:
        lpprop.refine(logits, FEATS, IMAGE)
    advice = str(error.value).partition("replace them: ")[2].rstrip(".")
    mended = eval(advice, {"logits": logits, "torch": torch})
    assert torch.isfinite(lpprop.refine(mended, FEATS, IMAGE, k=10)).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_class_warns(method):
    with pytest.warns(lpprop.InputWarning, match="got a single class"):
        lpprop.refine(LOGITS[:, :1], FEATS, IMAGE, method=method)


@pytest.mark.parametrize("value", [0.0, 2.5])
@pytest.mark.parametrize("method", METHODS)
def test_features_that_are_the_same_everywhere_warn(value, method):
    feats = torch.full_like(FEATS, value)
    with pytest.warns(lpprop.InputWarning, match="all patches are alike"):
        lpprop.refine(LOGITS, feats, IMAGE, method=method)


@pytest.mark.parametrize("method", ["lposs", "lposs+", lpprop.PatchPropagation(k=21)])
def test_more_than_a_quarter_of_the_patches_warns(method):
    with pytest.warns(lpprop.InputWarning, match="for 80 patches. More than a quarter"):
        lpprop.refine(LOGITS, FEATS, IMAGE, method=method)


# --------------------------------------------------------------------------- kinds of arrays


def negated(tensor):
    """An equal tensor whose minus is only noted."""
    lazy = torch.view_as_complex(torch.stack([torch.zeros_like(tensor), -tensor], -1)).conj().imag
    assert lazy.is_neg()
    return lazy


RESOLVED = {
    "negative bit": negated,
    "sparse": lambda x: x.to_sparse(),
    "mkldnn": lambda x: x.to_mkldnn(),
    "a masked array without masks": lambda x: np.ma.masked_array(x.numpy()),
}


@pytest.mark.parametrize("kind", RESOLVED)
@pytest.mark.parametrize("name", ["logits", "feats", "image"])
def test_kinds_that_can_be_resolved_are(kind, name):
    given = {"logits": LOGITS, "feats": FEATS, "image": IMAGE}
    expected = lpprop.refine(**given, k=10)
    result = lpprop.refine(**given | {name: RESOLVED[kind](given[name])}, k=10)
    assert torch.equal(result, expected)


@pytest.mark.parametrize("backend", ["torch", "llvm"])
def test_functions_resolve_the_negative_bit(backend):
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    scores = torch.rand(1, 3, 40, 50)
    image = torch.rand(1, 3, 40, 50)
    expected = lpprop.propagate_pixels(scores, image, backend=backend)
    result = lpprop.propagate_pixels(negated(scores), negated(image), backend=backend)
    assert torch.equal(result, expected)


def fake(x):
    from torch._subclasses import FakeTensorMode

    return FakeTensorMode().from_tensor(x)


REFUSED = {
    "float8": lambda x: x.to(torch.float8_e4m3fn),
    "meta": lambda x: x.to("meta"),
    "fake": fake,
    "nested": lambda x: torch.nested.nested_tensor([x[0], x[0, :, 1:]]),
    "complex": lambda x: x + 1j,
    "masked": lambda x: np.ma.masked_array(x.numpy(), x.numpy() > 0.5),
    "a path": lambda x: "street.png",
    "a number": lambda x: 5,
    "a list": lambda x: [x],
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", ["logits", "feats", "image", "attention"])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_kinds_that_cannot_be_used_are_refused_by_name(kind, name):
    given = {"logits": LOGITS, "feats": FEATS, "image": IMAGE}
    value = REFUSED[kind](given.get(name, torch.rand(1, 80, 80)))
    with pytest.raises(lpprop.InputError, match=f"^{name}: got"):
        lpprop.refine(**given | {name: value}, method="bilinear")


@pytest.mark.parametrize("door", ["chain", "module", "preset"])
@pytest.mark.parametrize("name", ["feats", "image", "attention"])
def test_an_input_that_no_step_needs_is_still_a_tensor(door, name):
    step = lpprop.ClassDistribution()
    call = {"chain": lpprop.Chain(step), "module": step, "preset": lpprop.presets.kl()}[door]
    with pytest.raises(lpprop.InputError, match=f"^{name}: got int"):
        call(LOGITS, **{"image": IMAGE} | {name: 5})


def test_vmap_is_refused():
    call = torch.vmap(lambda x: lpprop.refine(x, size=(8, 8), method="bilinear"))
    with pytest.raises(lpprop.InputError, match=r"inside torch\.vmap"):
        call(LOGITS[None])


@pytest.mark.parametrize("step", [int, str, dict, lpprop.PatchPropagation, Image.Image, 5, None])
def test_classes_are_no_steps(step):
    with pytest.raises(lpprop.InputError, match=r"^steps: got"):
        lpprop.Chain(step)


# --------------------------------------------------------------------------- numbers


def test_numpy_scalars_are_the_numbers_that_they_hold():
    from fractions import Fraction

    scores = torch.rand(1, 3, 40, 50)
    image = torch.rand(1, 3, 40, 50)
    for kind in (np.uint8, np.int8, np.uint16, np.int64):
        result = lpprop.propagate_pixels(scores, image, r=kind(3), max_iter=kind(5))
        assert torch.equal(result, lpprop.propagate_pixels(scores, image, r=3, max_iter=5))
    grid = torch.rand(1, 3, 4, 5)
    for value in (np.int8(100), np.float32(100), np.float16(100), Fraction(100)):
        result = lpprop.joint_bilateral_upsample(grid, image, sigma_space=value)
        expected = lpprop.joint_bilateral_upsample(grid, image, sigma_space=100)
        assert torch.equal(result, expected)
        module = lpprop.JointBilateralUpsample(sigma_space=value)
        assert torch.equal(module(grid, image=image), expected)
        assert type(module.sigma_space) is float


@pytest.mark.parametrize("value", [2**70, -(2**70), np.array(3), torch.tensor(3), "3", True, 3.0])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(lpprop.InputError, match=r"^r: got"):
        lpprop.PixelPropagation(r=value)


@pytest.mark.parametrize("value", [np.array(["auto"]), ["auto"], 3, None, np.array([1, 2])])
def test_what_is_no_choice_is_refused(value):
    with pytest.raises(lpprop.InputError, match=r"^backend: got"):
        lpprop.PixelPropagation(backend=value)


# --------------------------------------------------------------------------- photographs


def photo(orientation):
    picture = Image.fromarray((IMAGE[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    picture.getexif()[0x0112] = orientation
    return picture


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_photo_that_is_not_upright_warns_and_keeps_its_stored_pixels(orientation):
    expected = lpprop.refine(LOGITS, FEATS, photo(1), method="pamr")
    with pytest.warns(lpprop.InputWarning, match=f"EXIF orientation is {orientation}"):
        result = lpprop.refine(LOGITS, FEATS, photo(orientation), method="pamr")
    assert torch.equal(result, expected)


def test_scores_near_the_largest_of_their_dtype_are_averaged_over_windows():
    windows = lpprop.SlidingWindows((80, 112), 64, 32)
    logits = torch.full((len(windows), 2, 4, 4), 3e38)
    logits[:, 1] = -3e38
    settings = [windows, windows, windows]
    given = {"windows": settings, "method": "bilinear"}
    result = lpprop.refine([logits] * 3, image=torch.rand(1, 3, 80, 112), **given)
    torch.testing.assert_close(result[:, 0], torch.full((1, 80, 112), 3e38), rtol=1e-5, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_equal_input_in_another_memory_layout_gives_equal_bits(method):
    def padded(x):
        room = x.new_full((*x.shape[:-1], 2 * x.shape[-1] + 1), torch.nan)
        room[..., 1::2] = x
        return room[..., 1::2]

    options = {"k": 10} if method in ("lposs", "lposs+") else {}
    given = {"logits": LOGITS, "feats": FEATS, "image": IMAGE}
    expected = lpprop.refine(**given, method=method, **options)
    layouts = [padded, lambda x: x.mT.contiguous().mT,
               lambda x: x.contiguous(memory_format=torch.channels_last)]  # fmt: skip
    for layout in layouts:
        other = {name: layout(x) for name, x in given.items()}
        assert torch.equal(lpprop.refine(**other, method=method, **options), expected)


# --------------------------------------------------------------------------- squashed squares


@pytest.mark.parametrize(("classes", "side", "pixels"), [
    (21, 28, (375, 500)), (20, 28, (480, 640)), (19, 37, (1024, 2048)), (1, 28, (375, 500)),
])  # fmt: skip
def test_a_square_grid_of_a_squashed_image_is_no_other_order(classes, side, pixels):
    """As many classes as a data set has may make a grid of the image's shape by accident."""
    logits, image = torch.rand(1, classes, side, side), torch.rand(1, 3, *pixels)
    with collect_warnings(shown=False) as said:
        result = lpprop.refine(logits, image=image, method="bilinear")
    assert result.shape == (1, classes, *pixels)
    assert any("squashed" in message for message in said)
    with collect_warnings(shown=False) as said:
        again = lpprop.refine(logits, image=image, method="bilinear", span=pixels)
    assert not any("squashed" in message for message in said)
    assert torch.equal(result, again)


def test_a_preset_called_directly_compares_grids_with_the_image_too():
    preset = lpprop.presets.lposs(k=10)
    with pytest.raises(lpprop.InputError, match=r"^logits: got .*swapped"):
        preset(LOGITS.mT, feats=FEATS, image=IMAGE)
    with pytest.raises(lpprop.InputError, match=r"^feats: got .*channels look last"):
        preset(LOGITS, feats=FEATS.movedim(1, -1), image=IMAGE)
    windows = lpprop.SlidingWindows((128, 160), 64, 32)
    crops = torch.rand(len(windows), 4, 3, 4), torch.rand(len(windows), 4, 4, 8)
    with pytest.raises(lpprop.InputError, match=r"^feats: got .*channels look last"):
        preset(crops[0], feats=crops[1], windows=windows)


@pytest.mark.parametrize("grid", [(26, 35), (27, 36)])
def test_features_of_dinov2_are_recognised_by_their_patches(grid):
    image = torch.rand(1, 3, 375, 500)
    with pytest.warns(lpprop.InputWarning, match='feats_from="dinov2"'):
        lpprop.refine(torch.rand(1, 3, *grid), torch.rand(1, 8, *grid), image, method="lposs", k=20)


@pytest.mark.parametrize("backend", ["torch", "llvm"])
def test_a_tolerance_beyond_the_dtype_stops_at_once(backend):
    if backend == "llvm":
        pytest.importorskip("llvmlite")
    scores, image = torch.rand(1, 3, 20, 20), torch.rand(1, 3, 20, 20)
    result = lpprop.propagate_pixels(scores, image, tol=1e300, backend=backend)
    assert not result.any()  # the solver starts at zero


@pytest.mark.parametrize(
    "image", [IMAGE / 255, (IMAGE > 0.5).to(torch.uint8)], ids=["twice", "mask"]
)
def test_an_image_on_another_scale_warns(image):
    with pytest.warns(lpprop.InputWarning, match="all but black"):
        lpprop.refine(LOGITS, FEATS, image, method="pamr")


def test_a_dark_photograph_and_a_black_frame_do_not_warn():
    for image in (IMAGE / 20, torch.zeros_like(IMAGE), (IMAGE * 12).to(torch.uint8)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lpprop.refine(LOGITS, FEATS, image, method="pamr")


def test_one_item_of_constant_features_is_told():
    feats = torch.cat([FEATS, torch.ones_like(FEATS)])
    twice = [x.expand(2, -1, -1, -1) for x in (LOGITS, IMAGE)]
    with pytest.warns(lpprop.InputWarning, match="the same at every patch of item 1"):
        lpprop.refine(twice[0], feats, twice[1], method="pamr")


def test_an_orientation_that_there_is_not_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lpprop.refine(LOGITS, FEATS, photo(99), method="pamr")
