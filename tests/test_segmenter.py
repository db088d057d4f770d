"""The segmenter against its parts put together by hand, and its recipes on tiny models."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import lpprop
from lpprop import InputError, SlidingWindows
from lpprop.backbones import Backbone, BackboneOutput
from lpprop.evaluation.analyses import Ensemble
from lpprop.models.geometry import resize_image, sample_on_grid, seen_size
from lpprop.models.recipes import RECIPES, Model, Recipe
from lpprop.models.requirements import check_room
from lpprop.models.segmenter import Segmenter

CLASSES = ["sky", "cat; kitten", "floor"]


class Toy(Backbone):
    """Patch means in the colours that the class names' lengths pick, and what is asked for."""

    def __init__(self, patch_size, *provides, feats_from=None, resizes=False):
        super().__init__(patch_size=patch_size, mean=(0.5,) * 3, std=(0.25,) * 3)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.provides, self.feats_from, self.resizes = provides, feats_from, resizes

    def span(self, size):
        return size if self.resizes else super().span(size)

    def class_names(self, classes):
        return [text.split(";")[0] for text in classes]

    def _item_bytes(self, size):
        return 1

    def _see(self, pixels, classes):
        if self.resizes:
            sides = [max(1, side // self.patch_size) * self.patch_size for side in pixels.shape[2:]]
            pixels = F.interpolate(pixels, sides, mode="bilinear", antialias=True)
        means = F.avg_pool2d(pixels, self.patch_size)
        grid = tuple(means.shape[-2:])
        given = {}
        if classes is not None:
            given["logits"] = torch.stack([means[:, len(text) % 3] for text in classes], 1)
        if "feats" in self.provides:
            given["feats"] = F.normalize(torch.cat([means, means**2, means[:, :1] * 0 + 1], 1))
        if "attention" in self.provides:
            x = means.flatten(2)
            given["attention"] = (x.mT @ x).softmax(-1)
        return BackboneOutput(grid, **given)


@pytest.fixture
def image():
    return torch.rand(2, 3, 70, 101, generator=torch.Generator().manual_seed(0))


def test_one_backbone_with_its_own_feats(image):
    toy = Toy(8, "logits", "feats", feats_from="vit-b/16")
    scores, names = Segmenter(toy, method="lposs", k=20)(image, CLASSES)
    assert names == ["sky", "cat", "floor"]
    assert scores.shape == (2, 3, 70, 101)
    padded = F.pad(image, (0, 3, 0, 2), mode="replicate")
    seen = toy(image, CLASSES)
    assert seen.grid == (9, 13)
    expected = lpprop.presets.lposs(k=20, patch_size=8)(seen.logits, feats=seen.feats, image=padded)
    torch.testing.assert_close(scores, expected[..., :70, :101])


def test_patches_that_do_not_coincide(image):
    """Logits at 16-pixel patches, feats at 14: sampled where the centres of the latter are."""
    backbone, affinity = Toy(16, "logits"), Toy(14, "feats", feats_from="dinov2")
    segmenter = Segmenter(backbone, affinity, method="lposs+", k=15)
    assert "gamma=7.0" in repr(segmenter)
    scores, _ = segmenter(image, CLASSES)
    logits, feats = backbone(image, CLASSES).logits, affinity(image).feats
    assert (logits.shape[-2:], feats.shape[-2:]) == ((5, 7), (5, 8))
    on_feats = torch.empty(2, 3, 5, 8)
    for r in range(5):
        for c in range(8):
            y = min(max((14 * r + 7) / 16 - 0.5, 0), 4)
            x = min(max((14 * c + 7) / 16 - 0.5, 0), 6)
            top, left = min(int(y), 3), min(int(x), 5)
            a, b = y - top, x - left
            rows = (1 - a) * logits[:, :, top] + a * logits[:, :, top + 1]
            on_feats[:, :, r, c] = (1 - b) * rows[..., left] + b * rows[..., left + 1]
    padded = F.pad(image, (0, 11, 0, 0), mode="replicate")
    expected = lpprop.refine(on_feats, feats, padded, method="lposs+", feats_from="dinov2", k=15)
    torch.testing.assert_close(scores, expected[..., :101], rtol=1e-4, atol=1e-5)


def test_sampling_between_equal_spans_is_bilinear():
    logits = torch.rand(1, 2, 4, 6)
    torch.testing.assert_close(
        sample_on_grid(logits, (64, 96), (64, 96), (8, 9)), lpprop.bilinear_upsample(logits, (8, 9))
    )
    # The general way gives the same where the spans differ by nothing that matters.
    torch.testing.assert_close(
        sample_on_grid(logits, (64, 96), (64.0, 96.000001), (8, 9)),
        lpprop.bilinear_upsample(logits, (8, 9)),
        rtol=1e-4,
        atol=1e-5,
    )


def test_attention_goes_to_the_methods_that_take_it(image):
    backbone, affinity = Toy(10, "logits", resizes=True), Toy(10, "attention", resizes=True)
    scores, _ = Segmenter(backbone, affinity, "max_velocity")(image, CLASSES)
    logits, attention = backbone(image, CLASSES).logits, affinity(image).attention
    expected = lpprop.refine(logits, attention=attention, image=image, method="max_velocity")
    torch.testing.assert_close(scores, expected)
    # Both at once: feats for the propagation, which refuses no attention that it does not get.
    both = Toy(10, "feats", "attention", resizes=True)
    scores, _ = Segmenter(backbone, both, "lposs", k=9)(image, CLASSES)
    # The model saw 70 x 100 pixels, in which its patches are 10 pixels apart.
    saw = F.interpolate(image, (70, 100), mode="bilinear", antialias=True)
    expected = lpprop.refine(logits, both(image).feats, saw, method="lposs", k=9, patch_size=10)
    torch.testing.assert_close(scores, lpprop.bilinear_upsample(expected, (70, 101)))


def test_regions_are_resized_with_the_image_that_a_model_resizes(image):
    # The model saw 64 x 96 of 70 x 101 pixels: other factors in height and in width.
    toy = Toy(32, "logits", "feats", resizes=True)
    regions = torch.arange(70 * 101).view(1, 70, 101).expand(2, 70, 101) // 909
    scores, _ = Segmenter(toy, method="region_vote")(image, CLASSES, regions=regions)
    rows, columns = ((torch.arange(n) + 0.5) * m / n for n, m in ((64, 70), (96, 101)))
    resized = regions[:, rows.long()][..., columns.long()]
    refined = lpprop.bilinear_upsample(toy(image, CLASSES).logits, (64, 96))
    refined = lpprop.region_vote(refined, resized, by="vote")
    torch.testing.assert_close(scores, lpprop.bilinear_upsample(refined, (70, 101)))


def test_a_custom_method_gets_every_input(image):
    given = {}

    def method(logits, *, feats, image, attention):
        given.update(feats=feats, image=image, attention=attention)
        return lpprop.bilinear_upsample(logits, image.shape[-2:])

    toy = Toy(10, "logits", "feats", "attention", resizes=True)
    Segmenter(toy, method=method)(image, CLASSES)
    assert all(value is not None for value in given.values())


def test_an_input_that_no_affinity_provides_is_named():
    def method(logits, *, feats, image, attention, depth=None):
        return logits

    method.needs = ("depth",)
    with pytest.raises(InputError, match="expected an affinity that provides depth, for this"):
        Segmenter(Toy(8, "logits", "feats", "attention"), method=method)


def test_windows_share_one_graph(image):
    backbone, affinity = Toy(16, "logits"), Toy(8, "feats", feats_from="vit-b/8")
    segmenter = Segmenter(backbone, affinity, windows=(32, 16), k=30)
    scores, _ = segmenter(image, CLASSES)
    for one, got in zip(image.split(1), scores, strict=True):
        windows = SlidingWindows((70, 101), 32, 16)
        crops = windows.split(one)
        logits, feats = backbone(crops, CLASSES).logits, affinity(crops).feats
        expected = lpprop.refine(logits, feats, one, windows=windows, feats_from="vit-b/8", k=30)
        torch.testing.assert_close(got, expected[0])


def test_prompts_are_merged_after_the_refinement(image):
    class Prompts(Toy):
        def class_names(self, classes):
            return [text.split(";")[0] for text in classes[:2]]

        def groups(self, classes):
            return [[0, 2], [1]]

    toy = Prompts(10, "logits", "feats", resizes=True)
    scores, names = Segmenter(toy, k=9)(image, CLASSES)
    assert names == ["sky", "cat"]
    seen = toy(image, CLASSES)
    saw = F.interpolate(image, (70, 100), mode="bilinear", antialias=True)
    refined = lpprop.refine(seen.logits, seen.feats, saw, k=9, patch_size=10)
    refined = lpprop.bilinear_upsample(refined, (70, 101))
    torch.testing.assert_close(scores, lpprop.merge_classes(refined, [[0, 2], [1]]))


def test_edges_of_an_image_smaller_than_the_window_are_repeated(image):
    small = image[:1, :, :20, :50]
    toy = Toy(8, "logits", "feats", feats_from="vit-b/8")
    scores, _ = Segmenter(toy, windows=(32, 16), k=9)(small, CLASSES)
    grown = F.pad(small, (0, 0, 0, 12), mode="replicate")
    windows = SlidingWindows((32, 50), 32, 16)
    seen = toy(windows.split(grown), CLASSES)
    options = {"windows": windows, "feats_from": "vit-b/8", "k": 9}
    expected = lpprop.refine(seen.logits, seen.feats, grown, **options)
    torch.testing.assert_close(scores, expected[..., :20, :])


def test_the_image_is_resized_and_the_scores_come_back(image):
    toy = Toy(8, "logits", "feats", feats_from="vit-b/8")
    scores, _ = Segmenter(toy, method="lposs", shorter_side=35, k=9)(image, CLASSES)
    assert scores.shape == (2, 3, 70, 101)
    half = F.interpolate(image, (35, 51), mode="bilinear", antialias=True)
    inner, _ = Segmenter(toy, method="lposs", k=9)(half, CLASSES)
    torch.testing.assert_close(scores, lpprop.bilinear_upsample(inner, (70, 101)))


@pytest.mark.parametrize(
    ("size", "shorter", "longer", "expected"),
    [
        ((16, 640), 448, 2048, (51, 2048)),
        ((1, 100), 448, 2048, (20, 2048)),
        ((100, 1), 448, 2048, (2048, 20)),
        ((1, 5000), 448, 2048, (1, 2048)),
        ((1024, 2048), 448, 2048, (448, 896)),
        ((375, 500), 448, 2048, (448, 597)),
        ((720, 960), 448, 2048, (448, 597)),
        ((101, 70), 35, 2048, (51, 35)),
        ((448, 448), 448, 448, (448, 448)),
        ((10, 4000), None, 2048, (10, 4000)),
    ],
)
def test_the_size_is_that_of_mmsegmentation(size, shorter, longer, expected):
    """(2048, 448) with the ratio kept: the smaller of both scales, each side rounded half up."""
    assert seen_size(size, shorter, longer) == expected
    if shorter is not None:
        scale = min(longer / max(size), shorter / min(size))
        assert expected == tuple(max(1, int(side * scale + 0.5)) for side in size)


def test_a_long_and_narrow_image_stays_small():
    """One row of 100 pixels used to become 448 x 44,800, which took 7 GB."""
    seen = []

    class Watched(Toy):
        def _see(self, pixels, classes):
            seen.append(tuple(pixels.shape[-2:]))
            return super()._see(pixels, classes)

    toy = Watched(8, "logits", "feats", feats_from="vit-b/8")
    image = torch.rand(1, 3, 1, 100, generator=torch.Generator().manual_seed(0))
    scores = Segmenter(toy, method="bilinear", shorter_side=448)(image, CLASSES).scores
    assert scores.shape == (1, 3, 1, 100)
    assert seen == [(24, 2048)]


@pytest.mark.parametrize("size", [(720, 960), (97, 131), (448, 597)])
def test_without_antialiasing_resizing_is_that_of_opencv(size):
    """Up to OpenCV's rounding of 8-bit images, which this one does not do; floats agree closely.

    OpenCV rounds the weights of both axes to 11 bits, cuts the rows to 7 bits below a level and
    their two products to 2 bits, and rounds their sum to a level.
    """
    cv2 = pytest.importorskip("cv2", exc_type=ImportError)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    height, width = seen_size(size, 213, 2048)
    expected = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    found = resize_image(image, (height, width), antialias=False)[0].permute(1, 2, 0) * 255
    assert found.shape == expected.shape
    apart = (found - torch.from_numpy(expected)).abs()
    assert float(apart.max()) <= 2 * 255 / 2**12 + 2**-7 + 2 / 4 + 1 / 2
    assert float(apart.mean()) < 0.5
    floats = cv2.resize(pixels.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    torch.testing.assert_close(found, torch.from_numpy(floats), rtol=0, atol=2e-2)
    smooth = resize_image(image, (height, width))
    differs = float((255 * smooth[0].permute(1, 2, 0) - found).abs().mean())
    assert (differs > 10) == (min(size) > 213)  # enlarging needs no antialiasing


def test_which_recipes_sample_as_their_authors_do():
    sampling = {name for name, recipe in RECIPES.items() if not recipe.antialias}
    assert sampling == {"clip-dino", "clip-dino-448", "clip-dino8", "clip-dinov2"}
    assert {recipe.longer_side for recipe in RECIPES.values()} == {2048}
    toy = Toy(16, "logits", "feats", feats_from="vit-b/16")
    tied = RECIPES["clip-dino"].tie(toy, toy)
    assert (tied.antialias, tied.longer_side, tied.shorter_side) == (False, 2048, 448)
    assert "longer_side=2048, antialias=False" in repr(tied)


def test_one_class_is_told(image):
    segmenter = Segmenter(Toy(8, "logits", "feats", feats_from="vit-b/8"), k=9)
    with pytest.warns(
        lpprop.InputWarning, match=r"^classes: got only 'cat', which is the label of"
    ):
        scores = segmenter(image, ["cat"]).scores
    assert scores.shape == (2, 1, 70, 101)


@pytest.mark.parametrize("number", [np.int64(35), np.uint8(35), np.int8(35)])
def test_numbers_of_numpy_are_numbers(image, number):
    toy = Toy(8, "logits", "feats", feats_from="vit-b/8")
    expected = Segmenter(toy, shorter_side=35, windows=(16, 8), k=9)(image, CLASSES).scores
    windows = (type(number)(16), type(number)(8))
    segmenter = Segmenter(
        toy, shorter_side=number, longer_side=np.int64(2048), windows=windows, k=9
    )
    assert type(segmenter.shorter_side) is type(segmenter.longer_side) is int
    torch.testing.assert_close(segmenter(image, CLASSES).scores, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.rand(1, 3, 0, 8), "image: got shape (1, 3, 0, 8), expected no axis of size 0"),
        (np.zeros((0, 8, 3), np.uint8), "image: got shape (1, 3, 0, 8), expected no axis of size"),
        (np.zeros((8, 8, 4), np.uint8), "image: got shape (8, 8, 4)"),
        (np.zeros((8, 8, 3), np.int16), "image: got dtype torch.int16"),
        (np.zeros((8, 8, 3), complex), "image: got dtype complex128"),
        ("photo.jpg", "image: got str"),
        (None, "image: got NoneType"),
        ([[0.5]], "image: got list"),
    ],
)
def test_odd_images_are_refused(given, message):
    segmenter = Segmenter(Toy(8, "logits", "feats", feats_from="vit-b/8"), k=9)
    for call in (segmenter, segmenter.backbone):
        with pytest.raises(InputError) as refused:
            call(given, CLASSES)
        assert message in str(refused.value)


def test_memory_is_forecast_before_any_work(image, monkeypatch):
    toy = Toy(8, "logits", "feats", feats_from="vit-b/8")
    monkeypatch.setattr(toy, "_see", lambda *_: pytest.fail("the model ran"))
    monkeypatch.setattr("lpprop.models.requirements.available_bytes", lambda _: 10**6)
    told = r"^image: got 2 x 70 x 101 pixels, seen as 448 x 646, whose scores of 3 classes .* need"
    with pytest.raises(InputError, match=told):
        Segmenter(toy, shorter_side=448)(image, CLASSES)
    monkeypatch.setattr("lpprop.backbones.frozen.available_bytes", lambda _: 0)
    with pytest.raises(InputError, match=r"^image: got 72 x 104 pixels, for which Toy needs about"):
        toy(image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_averages_of_large_scores_do_not_overflow(dtype):
    large = 0.99 * torch.finfo(dtype).max
    windows = SlidingWindows((30, 40), 16, 5)
    scores = torch.full((len(windows), 2, 2, 2), large, dtype=dtype)
    scores[:, 1] *= -1
    merged = windows.merge(scores)
    expected = torch.stack([torch.full((30, 40), sign * large, dtype=dtype) for sign in (1, -1)])
    torch.testing.assert_close(merged[0], expected, rtol=2e-3, atol=0)
    average = Ensemble([lambda sample: merged[0]] * 3)(None)
    torch.testing.assert_close(average, expected, rtol=2e-3, atol=0)


def test_averages_over_windows_equal_those_in_float64():
    windows = SlidingWindows((30, 40), 16, 5)
    scores = torch.randn(len(windows), 3, 4, 4, generator=torch.Generator().manual_seed(0))
    total, count = torch.zeros(3, 30, 40, dtype=torch.float64), torch.zeros(30, 40)
    for one, (y1, y2, x1, x2) in zip(scores.double().split(1), windows.boxes.tolist(), strict=True):
        total[:, y1:y2, x1:x2] += F.interpolate(one, (y2 - y1, x2 - x1), mode="bilinear")[0]
        count[y1:y2, x1:x2] += 1
    assert count.max() == 16  # a power of two that the bound on it must reach
    torch.testing.assert_close(windows.merge(scores)[0].double(), total / count, rtol=0, atol=2e-6)


def test_the_forecast_is_a_few_times_the_scores():
    """The scores at both sizes, as tensors that exist at once at the end."""
    needed = []
    for limit in range(10**6, 10**8, 10**5):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lpprop.models.requirements.available_bytes", lambda _, x=limit: x)
            try:
                check_room(1, (512, 512), (64, 64), 21, torch.device("cpu"))
            except InputError:
                needed.append(limit)
    scores = 4 * 21 * 512 * 512
    assert scores <= needed[-1] <= 3 * scores


def test_pictures_and_arrays():
    array = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    segmenter = Segmenter(Toy(8, "logits", "feats", feats_from="vit-b/8"), k=9)
    first = segmenter(array, CLASSES)
    assert first.labels.shape == (1, 40, 56)
    assert torch.equal(first.labels, first.scores.argmax(1))
    torch.testing.assert_close(segmenter(Image.fromarray(array), CLASSES).scores, first.scores)


def test_backbones_take_pictures_and_arrays_too():
    array = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    toy, single = Toy(8, "logits", "feats"), torch.from_numpy(array).permute(2, 0, 1)
    expected = toy(single[None] / 255, CLASSES)
    for given in (array, Image.fromarray(array), single, single / 255, single[None], array[None]):
        seen = toy(given, CLASSES)
        assert seen.grid == expected.grid
        torch.testing.assert_close(seen.logits, expected.logits)
        torch.testing.assert_close(seen.feats, expected.feats)
    grey = Image.fromarray(array[..., 0])
    torch.testing.assert_close(toy(grey).feats, toy(grey.convert("RGB")).feats)


def test_what_is_shown_in_a_notebook(image):
    toy = Toy(8, "logits", "feats", "attention")
    assert repr(toy(image, CLASSES)) == (
        "BackboneOutput(grid=(9, 13), logits=(2, 3, 9, 13), feats=(2, 7, 9, 13), "
        "attention=(2, 117, 117))"
    )
    assert repr(toy) == (
        "Toy(patch_size=8, provides=logits and feats and attention, mean=(0.5, 0.5, 0.5), "
        "std=(0.25, 0.25, 0.25), dtype=torch.float32, device=cpu)"
    )
    lines = repr(RECIPES).splitlines()
    assert len(lines) == len(RECIPES)
    assert lines[1].split() == [
        "clip-dino", "MaskCLIP", "laion-vitb16,", "VisionTransformer", "dino-vitb16", "lposs+",
    ]  # fmt: skip
    assert repr(RECIPES["clip-dino"]) == str(RECIPES["clip-dino"])
    with pytest.raises(InputError, match=r"recipe: got 'clip-dimo'.*Did you mean clip-dino\?"):
        RECIPES["clip-dimo"]


def test_recipes_are_pinned_where_a_commit_is_known():
    both = [(recipe.backbone, recipe.affinity) for recipe in RECIPES.values()]
    models = [model for pair in both for model in pair if model and model.checkpoint]
    pins = {model.checkpoint: model.revision for model in models}
    unknown = {"dino-vitb8", "dinov3-vitb16", "metaclip2-vitb16", "radio-v4-h", "sam3"}
    unknown |= {"siglip2-vitb16", "tipsv2-vitb14"}
    assert {name for name, revision in pins.items() if revision is None} == unknown
    assert all(len(revision) == 40 and int(revision, 16) for revision in pins.values() if revision)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segmenter(Toy(8, "feats")), "backbone: got Toy, which provides feats, expected"),
        (lambda: Segmenter(torch.nn.Identity()), "backbone: got Identity, expected a backbone"),
        (lambda: Segmenter(Toy(8, "logits"), "dino"), "affinity: got str, expected a backbone"),
        (
            lambda: Segmenter(Toy(8, "logits", "feats"), windows=(30, 15)),
            "whole patches of Toy, 8 pixels",
        ),
        (
            lambda: Segmenter(Toy(8, "logits", "feats"), windows=224),
            "windows: got 224, expected a pair",
        ),
        (
            lambda: Segmenter(Toy(8, "logits", "feats"), windows=(16, 32)),
            "stride: got 32, expected at",
        ),
        (lambda: Segmenter(Toy(8, "logits"), method="lpos"), "Did you mean 'lposs'"),
        (lambda: Segmenter(Toy(8, "logits"), kk=3), "kk: got an option that"),
        (lambda: Segmenter(Toy(8, "logits"), method=print, k=3), "k: got options beside a method"),
        (lambda: Segmenter(Toy(8, "logits", "feats"), shorter_side=0), "shorter_side: got 0"),
        (lambda: Segmenter(Toy(8, "logits", "feats"), shorter_side=True), "shorter_side: got True"),
        (lambda: Segmenter(Toy(8, "logits", "feats"), shorter_side="9"), "shorter_side: got '9'"),
        (lambda: Segmenter(Toy(8, "logits", "feats"), longer_side=1.5), "longer_side: got 1.5"),
        (
            lambda: Segmenter(Toy(8, "logits", "feats"), shorter_side=64, longer_side=32),
            "longer_side: got 32, expected at least shorter_side = 64",
        ),
        (lambda: Segmenter(Toy(8, "logits", "feats"), antialias=1), "antialias: got 1, expected"),
        (
            lambda: Segmenter(Toy(8, "logits"), Toy(8, "attention"), "lposs"),
            "affinity: got Toy, which provides attention, expected an affinity that provides feats",
        ),
        (
            lambda: Segmenter(Toy(8, "logits"), method="max_velocity"),
            "provides logits, expected an affinity that provides attention or feats",
        ),
        (
            lambda: Segmenter(
                Toy(8, "logits", "attention"), method="max_velocity", windows=(16, 8)
            ),
            "windows: got (16, 8), expected None, since this method works on the attention of",
        ),
        (lambda: Segmenter(Toy(8, "logits"), method=3), "method: got 3, expected a preset's"),
        (lambda: Toy(8, "feats")(torch.rand(1, 3, 8, 8) * 2), "image: got values from"),
        (
            lambda: Backbone.class_names(Toy(8, "feats"), ["a"]),
            "classes: got class names, expected",
        ),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert message in str(refused.value)


def test_batches_under_a_memory_bound_equal_the_whole(image):
    toy = Toy(8, "logits", "feats", "attention")
    toy.max_bytes = 10**9
    whole = toy(image, CLASSES)
    toy.max_bytes = 1
    parts = toy(image, CLASSES)
    assert whole.grid == parts.grid
    for one, other in zip(whole[1:], parts[1:], strict=True):
        torch.testing.assert_close(one, other)


def test_padding_has_the_mean_colour():
    toy = Toy(8, "logits")
    logits = toy(torch.ones(1, 3, 4, 8), ["abc"]).logits
    torch.testing.assert_close(logits, torch.full((1, 1, 1, 1), (1 - 0.5) / 0.25 / 2))


def test_recipes_are_data():
    for name, recipe in RECIPES.items():
        text = str(recipe)
        assert recipe.backbone.kind in text, name
        assert recipe.source
        lpprop.presets.by_name(recipe.method, **recipe.options)
    assert str(RECIPES["clip-dino"]).splitlines() == [
        "backbone      MaskCLIP laion-vitb16 at 7288da5, scores='cosine', merge=False",
        "affinity      VisionTransformer dino-vitb16 at f205d5d, position_offset=0.1",
        "method        lposs+",
        "shorter side  448, the longer one at most 2048",
        "antialias     False",
        "windows       224 every 112",
        "source        Stojnic et al., LPOSS, CVPR 2025",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECIPES["clip-dino"].method = "lposs"
    assert pickle.loads(pickle.dumps(RECIPES["clip-sd2"])) == RECIPES["clip-sd2"]


def test_missing_weights_are_named(tmp_path):
    pytest.importorskip("transformers")
    recipe = Recipe(Model("MaskCLIP", tmp_path / "absent"))
    with pytest.raises(InputError, match=r"checkpoint: got .*absent"):
        recipe.build(download=False)
