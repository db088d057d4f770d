"""`lpprop.video`: the joint graph against a dense twin, and clips of any length."""

import gc
import weakref

import numpy as np
import pytest
import torch

import lpprop
import reference
from lpprop import InputError, video

C, D, H, W = 3, 8, 4, 5
PATCH = 8
SIZE = (H * PATCH, W * PATCH)
# Rounding in float64, relative to the largest score of a class.
CLOSE = 1e-9


def clip(frames, seed=0, dtype=torch.float64, **sizes):
    """Images, logits and feats of a few frames, none like another."""
    rng = torch.Generator().manual_seed(seed)
    grid = (sizes.get("H", H), sizes.get("W", W))
    pixels = (grid[0] * PATCH, grid[1] * PATCH)
    return (
        torch.rand(frames, 3, *pixels, generator=rng, dtype=dtype),
        torch.randn(frames, C, *grid, generator=rng, dtype=dtype),
        torch.randn(frames, D, *grid, generator=rng, dtype=dtype),
    )


def refined(images, logits, feats, **options):
    given = {"method": "lposs", "patch_size": PATCH, "k": 4, "gamma": 3.0} | options
    return list(video.refine(images, logits, feats, **given))


def joint(logits, feats, times, **options):
    """`propagate_patches` over frames, in arrays."""
    found = lpprop.propagate_patches(logits, feats, times=torch.as_tensor(times), **options)
    return found.numpy()


def twin(logits, feats, times, k, corners=((0, 0),), **options):
    """The dense float64 twin of the same graph; frames are made of one item per corner."""
    windows = [(y, y + 1, x, x + 1) for y, x in corners] * (len(logits) // len(corners))
    seen = np.repeat(np.asarray(times, dtype=np.float64), logits.shape[-2] * logits.shape[-1])
    return reference.propagate_patches(
        logits.numpy(), feats.numpy(), windows=windows, times=seen,
        k=k * len(set(map(float, times))), **options,
    )  # fmt: skip


# --------------------------------------------------------------------------- the graph


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sigma_time": 0.5},
        {"sigma_time": 2.0, "sigma": 0.1, "gamma": 1.5, "alpha": 0.8},
        {"sigma_time": 0.5, "spatial": "none"},
        {"sigma_time": 0.5, "spatial": "linear", "appearance": "exponential"},
        {"sigma_time": 0.5, "storage": "csr"},
        {"sigma_time": 0.5, "max_iter": 500, "tol": 1e-13},
    ],
)
@pytest.mark.parametrize("times", [[0.0, 1.0, 2.0], [0.0, 0.1, 5.0]])
def test_the_joint_graph_is_that_of_a_dense_twin(times, options):
    _, logits, feats = clip(3)
    got = joint(logits, feats, times, k=4, patch_size=PATCH, **options)
    options.pop("storage", None)
    expected = twin(logits, feats, times, 4, patch_size=PATCH, **options)
    assert reference.class_error(got, expected) <= CLOSE


def test_windows_of_frames_are_that_of_a_dense_twin():
    """Two windows of each of two frames: places from the boxes, times from the frames."""
    _, logits, feats = clip(4)
    corners = ((0, 0), (0, 16))
    boxes = torch.tensor([(y, y + SIZE[0], x, x + SIZE[1]) for y, x in corners] * 2)
    times = [0.0, 0.0, 1.0, 1.0]
    options = {"patch_size": PATCH, "sigma_time": 0.7, "sigma": 0.05}
    got = joint(logits, feats, times, k=4, windows=boxes, **options)
    expected = twin(logits, feats, times, 4, corners, **options)
    assert reference.class_error(got, expected) <= CLOSE
    assert reference.class_error(joint(logits, feats, times, k=4, **options), expected) > 1e-3


@pytest.mark.parametrize("options", [{"k": 4, "gamma": 3.0, "alpha": 0.9}, {}])
def test_the_order_of_frames_does_not_count(options):
    """Only times do: frames in another order, and a clip that runs backwards, give the same."""
    _, logits, feats = clip(4)
    options = {"k": "auto", "gamma": "auto", "alpha": "auto", "sigma_time": 0.6} | options
    times = torch.tensor([0.0, 1.0, 3.0, 4.5], dtype=torch.float64)
    straight = joint(logits, feats, times, **options)
    order = torch.tensor([2, 0, 3, 1])
    moved = joint(logits[order], feats[order], times[order], **options)
    assert reference.class_error(moved, straight[order]) <= CLOSE
    assert reference.class_error(joint(logits, feats, -times, **options), straight) <= CLOSE


def test_a_clip_that_stands_still_keeps_its_labels_more():
    """T frames alike are one frame whose patches have themselves as neighbours T - 1 times.

    With k T neighbours in the T frames, each patch finds its k of each frame, its own copies among
    them. Copies are joined both ways by 1, and to their own frame's patches as these are, so that
    the graph is T S + 2 (T - 1) I where the single frame's is S.
    """
    _, logits, feats = clip(1)
    T, k, alpha = 3, 4, 0.9
    repeat = [T, 1, 1, 1]
    got = joint(
        logits.repeat(repeat), feats.repeat(repeat), range(T), k=k, alpha=alpha,
        max_iter=500, tol=1e-13,
    )  # fmt: skip
    rows = feats[0].flatten(1).T.numpy()
    assert reference.neighbour_gap(rows, k) > 1e-6
    S = reference.patch_graph(rows, reference.patch_centres(H, W, 16), k=k)
    graph = T * S + 2 * (T - 1) * np.eye(H * W)
    solution = np.linalg.solve(
        np.eye(H * W) - alpha * reference.normalise(graph), logits[0].flatten(1).numpy().T
    )
    expected = solution.T.reshape(1, C, H, W)
    for frame in got:
        assert reference.class_error(frame[None], expected) <= CLOSE


def test_times_far_apart_leave_each_frame_alone():
    """exp(-1000) is 0: with every patch a neighbour, only edges within a frame are left."""
    _, logits, feats = clip(3)
    everyone = {"k": H * W, "max_iter": 500, "tol": 1e-13}
    got = joint(logits, feats, [0.0, 1.0, 2.0], sigma_time=1000.0, **everyone)
    alone = lpprop.propagate_patches(logits, feats, **everyone).numpy()
    assert reference.class_error(got, alone) <= CLOSE


def test_refine_takes_a_whole_clip_as_one_batch():
    images, logits, feats = clip(3)
    options = {"k": 4, "patch_size": PATCH, "sigma_time": 0.4}
    got = lpprop.refine(logits, feats, images, method="lposs", times=torch.arange(3.0), **options)
    alone = lpprop.propagate_patches(logits, feats, times=torch.arange(3.0), **options)
    assert torch.equal(got, lpprop.bilinear_upsample(alone, SIZE))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (torch.zeros(2), "times: got shape (2,), expected (B=3"),
        (torch.tensor([0.0, float("nan"), 1.0]), "times: got"),
        ([0.0, 1.0, 2.0], "times: got list"),
    ],
)
def test_times_that_cannot_be_used(times, said):
    _, logits, feats = clip(3)
    with pytest.raises(InputError) as error:
        lpprop.propagate_patches(logits, feats, times=times)
    assert said in str(error.value)


# --------------------------------------------------------------------------- the clip


@pytest.mark.parametrize("method", ["auto", "lposs+"])
def test_a_window_of_one_is_refine_frame_by_frame(method):
    images, logits, feats = clip(3, dtype=torch.float32)
    options = {"method": method, "patch_size": PATCH}
    got = list(video.refine(images, logits, feats, window=1, **options))
    for frame, scores in enumerate(got):
        one = [x[frame : frame + 1] for x in (logits, feats, images)]
        assert torch.equal(scores, lpprop.refine(*one, **options))


def test_each_frame_is_the_middle_of_its_window():
    """Frame i has the result that its window alone gives; at the ends the window is shorter."""
    images, logits, feats = clip(5)
    got = refined(images, logits, feats, window=3, sigma_time=0.5)
    for i, scores in enumerate(got):
        low, high = max(0, i - 1), min(5, i + 2)
        times = torch.arange(float(high - low))
        options = {"k": 4, "patch_size": PATCH, "sigma_time": 0.5}
        near = lpprop.propagate_patches(
            logits[low:high], feats[low:high], times=times.double(), **options
        )
        expected = lpprop.bilinear_upsample(near[i - low : i - low + 1], SIZE)
        assert reference.class_error(scores.numpy(), expected.numpy()) <= CLOSE
    assert len(got) == 5


def test_a_clip_shorter_than_its_window():
    images, logits, feats = clip(2)
    assert len(refined(images, logits, feats, window=9)) == 2
    assert refined(images[:0], logits[:0], feats[:0], window=3) == []


def test_steps_after_the_patch_step_see_one_frame():
    """The pixel step gets the frame's own image: the steps one by one give the same."""
    images, logits, feats = clip(3)
    options = {"method": "lposs+", "alpha": 0.9}
    scores = refined(images, logits, feats, window=3, **options)[1]
    near = lpprop.propagate_patches(
        logits, feats, times=torch.arange(3.0, dtype=torch.float64), k=4, gamma=3.0, alpha=0.9,
        patch_size=PATCH,
    )  # fmt: skip
    pixels = lpprop.bilinear_upsample(near[1:2], SIZE)
    expected = lpprop.propagate_pixels(pixels, images[1:2], alpha=0.9)
    assert reference.class_error(scores.numpy(), expected.numpy()) <= CLOSE


def test_windows_of_each_frame():
    """Sliding windows in space and frames in time are nodes of one graph, and merged per frame."""
    windows = lpprop.SlidingWindows((48, 64), window=48, stride=16)
    images = torch.rand(3, 3, 48, 64, dtype=torch.float64)
    logits = torch.randn(3, len(windows), C, 3, 3, dtype=torch.float64)
    feats = torch.randn(3, len(windows), D, 3, 3, dtype=torch.float64)
    got = refined(images, logits, feats, window=3, windows=windows, k=5, patch_size=16)
    assert [tuple(x.shape) for x in got] == [(1, C, 48, 64)] * 3
    near = lpprop.propagate_patches(
        logits.flatten(0, 1), feats.flatten(0, 1), windows=windows.boxes.repeat(3, 1), k=5,
        times=torch.arange(3.0, dtype=torch.float64).repeat_interleave(len(windows)),
    )  # fmt: skip
    expected = windows.merge(near[len(windows) : 2 * len(windows)])
    assert reference.class_error(got[1].numpy(), expected.numpy()) <= CLOSE


def test_logits_on_another_grid_are_brought_to_that_of_the_feats():
    images, logits, feats = clip(3)
    coarse = lpprop.bilinear_upsample(logits, (2, 3))
    resized = lpprop.bilinear_upsample(coarse, (H, W))
    got = refined(images, coarse, feats, window=3)
    expected = refined(images, resized, feats, window=3)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_times_are_those_that_are_given():
    images, logits, feats = clip(3)
    options = {"window": 3, "sigma_time": 1.0}
    by_number = refined(images, logits, feats, **options)
    late = refined(images, logits, feats, times=[1e7, 1e7 + 1, 1e7 + 2], **options)
    stretched = refined(images, logits, feats, times=[0, 10, 20], **options)
    assert all(torch.equal(a, b) for a, b in zip(by_number, late, strict=True))
    assert not torch.equal(by_number[1], stretched[1])


def test_a_background_and_a_size():
    """They are those of `lpprop.refine`, also for joined frames."""
    images, logits, feats = clip(3)
    options = {"background": 0.4, "size": (16, 20)}
    alone = refined(images, logits, feats, window=1, **options)
    single = {"method": "lposs", "patch_size": PATCH, "k": 4}
    expected = lpprop.refine(logits[:1], feats[:1], images[:1], **single, **options)
    assert torch.equal(alone[0], expected)
    joined = refined(images, logits, feats, window=3, **options)
    assert {tuple(scores.shape) for scores in joined} == {(1, C + 1, 16, 20)}


def test_a_chain_of_ones_own():
    """Patch propagation within an inner chain, and a step of the user's own after it."""
    images, logits, feats = clip(3)
    patches = lpprop.PatchPropagation(k=4, patch_size=PATCH)
    inner = lpprop.Chain(lpprop.Chain(patches, lpprop.BilinearUpsample()), lambda x: 2 * x)
    got = list(video.refine(images, logits, feats, method=inner, window=3))
    plain = refined(images, logits, feats, window=3)
    assert all(torch.equal(a, 2 * b) for a, b in zip(got, plain, strict=True))


# --------------------------------------------------------------------------- streams


class Source:
    """A stream that counts what is taken from it, and what of that is still held."""

    def __init__(self, length):
        self.length, self.taken, self.held, self.most = length, 0, 0, 0

    def __iter__(self):
        rng = np.random.default_rng(0)
        for _ in range(self.length):
            item = rng.random((D, H, W), dtype=np.float32)  # which tensors share, not copy
            self.taken, self.held = self.taken + 1, self.held + 1
            self.most = max(self.most, self.held)
            weakref.finalize(item, self._free)
            yield item
            del item

    def _free(self):
        self.held -= 1


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("length", [9, 20])
def test_a_stream_holds_no_more_than_its_window(window, length):
    """However long it is: features are counted where they are freed."""
    source = Source(length)
    images, logits, _ = clip(1, dtype=torch.float32)
    frames, scores = (iter([x[0]] * length) for x in (images, logits))
    gc.collect()
    gc.disable()  # what a circle kept would count
    try:
        for done, _ in enumerate(
            video.refine(frames, scores, source, window=window, method="lposs", patch_size=PATCH)
        ):
            assert source.taken == min(done + 1 + window // 2, length)
    finally:
        gc.enable()
    # The one frame more is the one that is being read.
    assert source.most <= window + (window == 1)
    assert done + 1 == length


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 4}, "window: got 4, expected an odd number"),
        ({"window": 0}, "window: got 0"),
        ({"method": "max_velocity"}, "method: got one whose first step is ClassDistribution"),
        ({"method": "bilinear"}, "method: got one whose first step is BilinearUpsample"),
        ({"method": "lpos"}, "method: got 'lpos'"),
        ({"sigma_time": -1.0}, "sigma_time: got -1.0"),
        ({"windows": [1]}, "windows: got list"),
        ({"times": 3}, "times: got int"),
    ],
)
def test_options_are_refused_before_a_frame_is_read(options, said):
    def never():
        raise AssertionError("a frame was read")
        yield

    with pytest.raises(InputError) as error:
        video.refine(never(), never(), never(), **options)
    assert said in str(error.value)


def _lose(logits):
    lost = logits.clone()
    lost[1, 0] = -torch.inf
    return lost


def _spoil(logits):
    spoilt = logits.clone()
    spoilt[2, 0, 0, 0] = torch.nan
    return spoilt


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i, x, f: (i[:2], x, f), "frames: got 2 items"),
        (lambda i, x, f: (i, x[:1], f), "logits: got 1 items"),
        (lambda i, x, f: (i, x, f[:2]), "feats: got 2 items"),
        (lambda i, x, f: (i, [*x[:2], x[2, :2]], f), "frame 2: logits: got (1, 2, 4, 5)"),
        (lambda i, x, f: (i, x, [f[0], f[1, :4], f[2]]), "frame 1: feats: got (1, 4, 4, 5)"),
        (lambda i, x, f: ([*i[:2], i[2, :, :16]], x, f), "frame 2: f"),
        (lambda i, x, f: (i, [x[0], x[1].float(), x[2]], f), "frame 1: logits"),
        (lambda i, x, f: (i, _lose(x), f), "frame 1: logits: got (1, 2, 4, 5)"),
        (lambda i, x, f: (i, _spoil(x), f), "frame 2: logits: got 1 NaN"),
        (lambda i, x, f: (i, x, [None] * 3), "frame 0: feats: got None"),
    ],
)
def test_a_frame_that_does_not_fit_is_named(change, said):
    with pytest.raises(InputError) as error:
        refined(*change(*clip(3)), window=3)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("times", [[0, 1, 1], [0, 2, 1], [0, 1, float("nan")], [0, 1]])
def test_times_must_rise(times):
    with pytest.raises(InputError, match="times: got"):
        refined(*clip(3), window=3, times=times)
