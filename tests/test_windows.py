"""Sliding windows, merging and upsampling against formulas written out pixel by pixel."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import lpprop
import reference

# (H, W), window, stride
SETTINGS = {
    "papers": ((448, 597), 224, 112),
    "papers-large": ((448, 597), 448, 224),
    "exact": ((24, 36), 12, 6),
    "touching": ((24, 36), 12, 12),
    "shifted-back": ((25, 31), 12, 7),
    "stride-1": ((14, 13), 12, 1),
    "window-is-image": ((12, 12), 12, 6),
    "larger-than-image": ((9, 10), 12, 6),
    "larger-in-height": ((9, 30), 12, 6),
    "larger-in-width": ((30, 9), 12, 6),
    "one-pixel": ((1, 1), 224, 112),
    "one-more-pixel": ((13, 13), 12, 6),
}
ALL = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
SMALL = pytest.mark.parametrize(
    "setting",
    [s for name, s in SETTINGS.items() if not name.startswith("papers")],
    ids=[name for name in SETTINGS if not name.startswith("papers")],
)


def windows_of(setting):
    size, window, stride = setting
    return lpprop.SlidingWindows(size, window=window, stride=stride)


@ALL
def test_boxes(setting):
    windows = windows_of(setting)
    boxes = reference.window_boxes(*setting[0], *setting[1:])
    assert windows.boxes.dtype == torch.int64
    np.testing.assert_array_equal(windows.boxes.numpy(), boxes)
    assert len(windows) == len(boxes)


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    window=st.integers(1, 40),
    data=st.data(),
)
def test_boxes_cover_the_image_and_stay_inside(size, window, data):
    stride = data.draw(st.integers(1, window))
    boxes = lpprop.SlidingWindows(size, window=window, stride=stride).boxes.numpy()
    np.testing.assert_array_equal(boxes, reference.window_boxes(*size, window, stride))
    covered = np.zeros(size, dtype=bool)
    for y1, y2, x1, x2 in boxes:
        assert 0 <= y1 < y2 <= size[0]
        assert 0 <= x1 < x2 <= size[1]
        assert (y2 - y1, x2 - x1) == (min(window, size[0]), min(window, size[1]))
        covered[y1:y2, x1:x2] = True
    assert covered.all()


def test_frozen_boxes():
    """The 15 windows of the papers' 448 x 597 image, as literals."""
    boxes = lpprop.SlidingWindows((448, 597), window=224, stride=112).boxes
    starts = [(y, x) for y in (0, 112, 224) for x in (0, 112, 224, 336, 373)]
    assert boxes.tolist() == [[y, y + 224, x, x + 224] for y, x in starts]


@ALL
def test_split_cuts_the_boxes(setting):
    windows = windows_of(setting)
    image = torch.rand(1, 3, *setting[0], generator=torch.Generator().manual_seed(0))
    crops = windows.split(image)
    assert len(crops) == len(windows)
    for crop, (y1, y2, x1, x2) in zip(crops, windows.boxes.tolist(), strict=True):
        torch.testing.assert_close(crop, image[0, :, y1:y2, x1:x2], rtol=0, atol=0)


@ALL
def test_merge_undoes_split(setting):
    windows = windows_of(setting)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, *setting[0], generator=generator, dtype=torch.float64)
    torch.testing.assert_close(windows.merge(windows.split(image)), image, rtol=1e-14, atol=0)


@SMALL
@pytest.mark.parametrize("grid", [(1, 1), (3, 2), (5, 7)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
def test_merge(setting, grid, dtype, tolerance):
    windows = windows_of(setting)
    boxes = reference.window_boxes(*setting[0], *setting[1:])
    scores = np.random.default_rng(0).uniform(size=(len(boxes), 2, *grid)).astype(np.float32)
    expected = reference.merge_windows(scores, boxes, setting[0])
    got = windows.merge(torch.tensor(scores, dtype=dtype))
    assert got.dtype == dtype
    assert reference.class_error(got, expected[None]) <= tolerance


@SMALL
def test_module_merges_where_windows_are_given(setting):
    windows = windows_of(setting)
    scores = torch.rand(len(windows), 2, 3, 3, generator=torch.Generator().manual_seed(0))
    got = lpprop.BilinearUpsample()(scores, windows=windows)
    torch.testing.assert_close(got, windows.merge(scores), rtol=0, atol=0)


@pytest.mark.parametrize("grid", [(1, 1), (1, 5), (4, 3), (7, 9)])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (16, 12), (7, 9), (5, 20)])
def test_bilinear_upsample(grid, size):
    x = np.random.default_rng(0).normal(size=(2, 3, *grid))
    expected = np.stack([[reference.bilinear(c, size) for c in item] for item in x])
    got = lpprop.bilinear_upsample(torch.tensor(x), size)
    assert reference.class_error(got, expected) <= 1e-13


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_a_mean_of_the_largest_numbers_is_no_infinity(dtype):
    largest = torch.finfo(dtype).max
    x = largest * torch.randn(1, 2, 5, 6, generator=torch.Generator().manual_seed(0)).sign().to(
        dtype
    )
    got = lpprop.bilinear_upsample(x, (17, 23))
    assert got.isfinite().all()
    scaled = lpprop.bilinear_upsample(x.double() / largest, (17, 23))
    # Places on the grid, up to 6, are rounded, and neighbours are up to 2 apart.
    atol = 2 * 6 * torch.finfo(dtype).eps
    np.testing.assert_allclose(got.double() / largest, scaled, rtol=0, atol=atol)


def test_any_image_can_be_cut_whatever_its_channels_and_range():
    windows = lpprop.SlidingWindows((6, 9), window=6, stride=3)
    normalised = torch.linspace(-3, 3, 108).reshape(1, 2, 6, 9)
    crops = windows.split(normalised)
    assert torch.equal(crops[1], normalised[0, :, :, 3:])
    with pytest.raises(lpprop.InputError, match="NaN or infinite"):
        windows.split(normalised / 0)
