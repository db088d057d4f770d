"""The study on labelled street images: its statistics by hand, and a run on a tiny tree."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
pytest.importorskip("pydensecrf", reason="the extra crf is not installed")
pytest.importorskip("matplotlib", reason="the extra eval is not installed")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks.camvid import figures, intervals, reasons, runs, starts, study, tables
from benchmarks.camvid.__main__ import DOCS, FILE, main
from benchmarks.camvid.methods import REFINERS, UPSAMPLERS, methods, pair
from benchmarks.camvid.sweeps import Every, grids
from benchmarks.marked import MARKED, renew

import lpprop
from lpprop.evaluation import SegmentationMetrics
from lpprop.evaluation.results import ImageResult, Result


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Eight images of 96 x 64 with two to four classes in blocks, coloured by class."""
    root = tmp_path_factory.mktemp("camvid")
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    colours = rng.integers(0, 256, (12, 3))
    for number in range(8):
        labels = np.kron(rng.integers(0, 4, (4, 6)), np.ones((16, 16))).astype(np.uint8)
        labels[:, 30:33] = 4  # thin
        labels[:3] = 11
        pixels = np.clip(colours[labels] + rng.normal(0, 20, (64, 96, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(labels).save(root / "labels" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def dataset(tree):
    return starts.images(tree)


class TestProbe:
    def test_regression_is_at_its_minimum(self):
        """The loss, written out, rises whichever way one steps from the solution."""
        rng = np.random.default_rng(0)
        x = np.column_stack([rng.normal(size=(50, 4)), np.ones(50)])
        y = rng.dirichlet(np.ones(3), 50)
        y[:5] = 0  # patches of which nothing is known

        def loss(weights):
            total = 0.0
            for row, shares in zip(x[5:], y[5:], strict=True):
                z = row @ weights
                total -= sum(shares * (z - np.log(np.exp(z).sum()))) / 45
            return total + 0.1 / 2 * (weights[:-1] ** 2).sum()

        fit = starts.logistic_regression(x, y, 0.1)
        assert fit.gradient < 1e-6
        least = loss(fit.weights)
        for _ in range(20):
            step = rng.normal(size=fit.weights.shape)
            for size in (1e-2, 1e-3):
                assert loss(fit.weights + size * step) > least

    def test_no_image_is_seen_by_its_own_classifier(self, dataset):
        probe = starts.ProbeStart(dataset, folds=4, gap=1)
        assert [probe.fold(i) for i in range(8)] == [0, 0, 1, 1, 2, 2, 3, 3]
        assert probe.trained_on(0) == [3, 4, 5, 6, 7]
        assert probe.trained_on(1) == [0, 5, 6, 7]
        assert probe.trained_on(3) == [0, 1, 2, 3, 4]

    def test_the_fit_depends_on_training_images_alone(self, dataset):
        class Changed:
            name, class_names = dataset.name, dataset.class_names

            def __init__(self, changed):
                self.changed = changed

            def __len__(self):
                return len(dataset)

            def __getitem__(self, i):
                sample = dataset[i]
                gt = (sample.gt + 1) % 11 if i in self.changed else sample.gt
                return SimpleNamespace(name=sample.name, image=sample.image, gt=gt)

        true, aside, trained = (
            starts.ProbeStart(Changed(which), gap=1, penalty=0.1).fits[1].weights
            for which in ([], [1, 2, 3, 4], [5])
        )
        assert np.array_equal(true, aside)
        assert np.abs(true - trained).max() > 1e-3

    def test_logits_are_those_of_the_classifier(self, dataset):
        probe = starts.ProbeStart(dataset, gap=1, penalty=0.1)
        sample = dataset[5]
        start = probe(sample)
        seen = probe.backbone(torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)[None] / 255)
        x = seen.feats[0, :, 1, 2].double().numpy() * seen.feats.shape[1] ** 0.5
        expected = np.append(x, 1) @ probe.fits[2].weights
        np.testing.assert_allclose(start.logits[0, :, 1, 2], expected, atol=1e-5)


def result(counts):
    images = [
        ImageResult(i, str(i), 0.0, SegmentationMetrics(2).update(*maps).to_dict())
        for i, maps in enumerate(counts)
    ]
    return Result("a", images, SegmentationMetrics(2), {})


RNG = np.random.default_rng(0)
GT = [RNG.integers(0, 2, (6, 8)) for _ in range(7)]
GOOD, BAD = ([np.where(RNG.random(x.shape) < p, 1 - x, x) for x in GT] for p in (0.1, 0.4))


class TestIntervals:
    def test_draws_are_of_whole_blocks(self):
        weights = intervals.drawn_images(8, draws=50, block=4)
        assert (weights.sum(1) == 8).all()
        circle = np.concatenate([weights, weights], axis=1)
        for row in circle:  # what was drawn at all was drawn with three neighbours
            there = row > 0
            assert any(there[i : i + 4].all() for i in range(8))
        assert len({tuple(row) for row in weights}) > 20

    def test_pooled_metrics_of_a_draw(self):
        weights = np.array([[1, 0, 2, 0, 0, 0, 1]])
        pooled = SegmentationMetrics(2)
        for i in (0, 2, 2, 6):
            pooled.update(GOOD[i], GT[i])
        both = result(zip(GOOD, GT, strict=True))
        assert intervals.pooled_miou(both, weights)[0] == pytest.approx(pooled.miou)
        found = intervals.pooled_boundary(both, weights)[0]
        assert found == pytest.approx(pooled.mean_boundary_iou)

    def test_difference(self):
        before, after = (result(zip(maps, GT, strict=True)) for maps in (BAD, GOOD))
        found = intervals.difference(before, after)
        assert 0 < found.low < found.gain < found.high
        assert found.better == 7
        assert intervals.difference(before, before) == (0, 0, 0, 0)


class TestReasons:
    def sample(self, gt, image=None):
        gt = np.array(gt)
        image = np.zeros((*gt.shape, 3), np.uint8) if image is None else image
        return SimpleNamespace(name="a", gt=gt, image=Image.fromarray(image))

    def test_thickness_of_a_strip_is_its_width(self):
        gt = np.zeros((100, 60), int)
        gt[:, 20:25] = 1
        gt[40:48, 40:48] = 2
        width = reasons.thickness([self.sample(gt)])
        assert width[1] == pytest.approx(5)
        assert width[2] == pytest.approx(4)  # half the side of a square

    def test_mended_and_broken(self):
        gt = np.array([[0, 0, 0, 0, 1, 1, 1, 255]])
        maps = {
            "before": np.array([[0, 0, 1, 1, 1, 1, 1, 0]]),
            "after": np.array([[0, 1, 0, 1, 1, 1, 1, 1]]),
        }
        found = reasons.repairs(lambda name, _: maps[name], "before", ["after"], [self.sample(gt)])
        assert found["after"] == {"mended": 50.0, "broken": 20.0}

    @pytest.mark.parametrize(("k", "gamma"), [(4, 7.0), (12, 3.0)])
    def test_weights_are_those_that_propagate(self, k, gamma):
        """The system solved with them is what the patch step returns."""
        torch.manual_seed(0)
        feats, logits = torch.rand(8, 3, 4), torch.rand(1, 5, 3, 4)
        weights = reasons.patch_weights(feats, k=k, gamma=gamma)
        scale = weights.sum(1).rsqrt()
        system = torch.eye(12) - 0.95 * scale[:, None] * weights * scale
        expected = torch.linalg.solve(system, logits[0].flatten(1).T.double()).T
        found = lpprop.propagate_patches(
            logits.double(), feats[None].double(), k=k, gamma=gamma, max_iter=100
        )
        torch.testing.assert_close(found[0].flatten(1), expected, rtol=1e-4, atol=1e-4)

    def test_purity_counts_edges_by_weight(self):
        torch.manual_seed(0)
        feats = torch.rand(8, 3, 4)
        oracle = torch.nn.functional.one_hot(torch.arange(12) % 3, 11).T.reshape(11, 3, 4).float()
        oracle[:, 0, 0] = 0  # nothing known
        found = reasons.purity([None], [feats], [oracle], k=5, gamma=3.0)
        weights, label = reasons.patch_weights(feats, k=5, gamma=3.0).numpy(), np.arange(12) % 3
        for c in range(3):
            inside = total = 0.0
            for i in range(1, 12):
                for j in range(1, 12):
                    if label[i] == c:
                        total += weights[i, j]
                        inside += weights[i, j] * (label[j] == c)
            assert found[c] == pytest.approx(100 * inside / total)

    def test_votes_count_edges_by_weight(self):
        torch.manual_seed(0)
        feats, truth = torch.rand(8, 3, 4), np.arange(12) % 3
        label = np.array([0, 1, 2, 1, 2, 2, 0, 0, 2, 0, 1, 1])
        one_hot = [
            torch.nn.functional.one_hot(torch.tensor(x), 11).T.reshape(11, 3, 4).float()
            for x in (truth, label)
        ]
        one_hot[0][:, 0, 0] = 0  # nothing known
        found = reasons.votes([feats], one_hot[:1], one_hot[1:], k=5, gamma=3.0)
        weights = reasons.patch_weights(feats, k=5, gamma=3.0).numpy()
        true_class = own_label = total = 0.0
        wrong = [i for i in range(1, 12) if label[i] != truth[i]]
        for i in wrong:
            for j in range(1, 12):
                total += weights[i, j]
                true_class += weights[i, j] * (label[j] == truth[i])
                own_label += weights[i, j] * (label[j] == label[i])
        assert found["wrong patches"] == pytest.approx(100 * len(wrong) / 11)
        assert found["for the true class"] == pytest.approx(100 * true_class / total)
        assert found["for the wrong label"] == pytest.approx(100 * own_label / total)

    def test_borders_by_brute_force(self):
        rng = np.random.default_rng(0)
        gt = np.kron(rng.integers(0, 3, (3, 3)), np.ones((14, 14))).astype(int)
        gt[:4, :5] = 255
        image = rng.integers(0, 256, (42, 42, 3)).astype(np.uint8)
        sample = self.sample(gt, image)
        share, contrast, band = reasons.border(sample)
        colour = lpprop.lab_features(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[
            0
        ].numpy()
        for y, x in [(0, 8), (6, 6), (14, 13), (20, 20), (41, 41), (30, 27), (2, 2)]:
            box = (slice(max(y - 8, 0), y + 9), slice(max(x - 8, 0), x + 9))
            own, other = gt[box] == gt[y, x], (gt[box] != gt[y, x]) & (gt[box] < 11)
            known = gt[y, x] < 11
            assert band[y, x] == (known and other.any())
            if band[y, x]:
                assert share[y, x] == pytest.approx(own.sum() / (gt[box] < 11).sum())
                means = [colour[:, box[0], box[1]][:, part].mean(1) for part in (own, other)]
                assert contrast[y, x] == pytest.approx(
                    np.linalg.norm(means[0] - means[1]), abs=1e-6
                )

    def test_near_borders_adds_up(self):
        gt = np.zeros((64, 64), int)
        gt[:, 32:] = 1
        image = np.zeros((64, 64, 3), np.uint8)
        image[:, 32:] = 200
        labels = {"all": gt, "half": np.zeros_like(gt)}
        found = reasons.near_borders(
            lambda name, _: labels[name], labels, [self.sample(gt, image)], (0.05, 0.3)
        )
        # The band is 8 pixels on each side of a straight border between black and light grey.
        assert found["% of the band"]["straight"] == 100
        assert found["% of the band"]["contrast 0.3 to inf"] == 100
        assert found["all"]["straight"] == 100
        assert found["half"]["straight"] == 50


# Two images have pixels of some classes alone.
PART = pytest.mark.filterwarnings("ignore:labels. no pixel is of class:lpprop.InputWarning")


@PART
@pytest.mark.filterwarnings("ignore:labels. rolled mostly predicts:lpprop.InputWarning")
def test_labels_are_made_once(dataset, tmp_path):
    """Both widths of the boundary come from one labelling, and a second run makes none."""
    calls = []

    def counted(logits, *, feats, image, attention):
        calls.append(1)
        return logits.roll(1, 1)

    two = Every(dataset, 4)
    found = runs.run(two, starts.oracle(), {"rolled": counted}, tmp_path)
    assert len(calls) == len(two) == 2
    again = runs.run(two, starts.oracle(), {"rolled": counted}, tmp_path)
    assert len(calls) == 2
    assert again.wide["rolled"].metrics.miou == found.wide["rolled"].metrics.miou
    fresh = SegmentationMetrics(11, dilation_ratio=0.005)
    for i in range(2):
        fresh.update(found.labels("rolled", two[i].name), two[i].gt)
    assert found.narrow["rolled"].metrics.mean_boundary_iou == fresh.mean_boundary_iou


def test_every_takes_the_middle():
    class Numbers(list):
        name, class_names = "numbers", ()

    part = Every(Numbers(range(24)), 4)
    assert [part[i] for i in range(len(part))] == [2, 6, 10, 14, 18, 22]


def test_grids_hold_the_defaults():
    """The point called the default has the defaults of the functions, where the grid has it."""
    for name, module in (
        ("patch step", lpprop.PatchPropagation()),
        ("patch step, k 50, γ 7", lpprop.PatchPropagation()),
        ("pixel step", lpprop.PixelPropagation()),
        ("joint bilateral", lpprop.JointBilateralUpsample()),
        ("guided filter", lpprop.GuidedFilter()),
        ("DenseCRF", lpprop.DenseCRF()),
        ("PAMR", lpprop.PAMR()),
    ):
        for key, value in tables.DEFAULTS[name].items():
            assert module.config[key] == (tuple(value) if isinstance(value, list) else value)
    assert {name: set(grid.values) for name, grid in grids(logits=True).items()} == {
        name: set(values) for name, values in tables.DEFAULTS.items()
    }


def test_methods_of_a_classifier_take_its_probabilities():
    torch.manual_seed(0)
    z, feats, image = torch.randn(1, 5, 4, 4), torch.rand(1, 8, 4, 4), torch.rand(1, 3, 64, 64)
    of = methods(["LP k 50, γ 7", "velocity preset"], ["bilinear"], logits=True)
    found = lpprop.refine(z, feats, image, method=of[pair("LP k 50, γ 7", "bilinear")])
    expected = lpprop.refine(z.softmax(1), feats, image, method="lposs", k=50, gamma=7.0)
    torch.testing.assert_close(found, expected)
    assert len(methods()) == len(REFINERS) * len(UPSAMPLERS)


@pytest.fixture
def small(monkeypatch):
    """A study with little of everything."""
    kept = ["start", "LP k 50, γ 7", "LP preset", "path preset", "velocity preset"]
    whole = {id(names): dict(names) for names in (REFINERS, UPSAMPLERS)}
    for names, few in ((REFINERS, kept), (UPSAMPLERS, ["bilinear", "pixel step"])):
        for name in set(names) - set(few):
            del names[name]
    monkeypatch.setattr(study, "SEEDS", (0, 1))
    monkeypatch.setattr(study, "SEED_COLUMNS", ["bilinear"])
    monkeypatch.setattr(study, "SIZES", (8, 16))
    monkeypatch.setattr(study, "SHARES", (0.4,))
    monkeypatch.setattr(study, "PENALTIES", (1.0,))
    monkeypatch.setitem(starts.ProbeStart.__init__.__kwdefaults__, "penalty", 1.0)
    yield
    for names in (REFINERS, UPSAMPLERS):  # in their order
        names.clear()
        names.update(whole[id(names)])


@PART
@pytest.mark.usefixtures("small")
def test_a_run(tree, tmp_path):
    """From the images to tables and charts; and from the results alone to the same tables."""
    docs, results = tmp_path / "docs", tmp_path / "camvid.json"
    docs.mkdir()
    names = ["oracle", "relabelled miou", "probe gains", "purity", "sweeps", "seeds", "shares"]
    marked = "\n".join(f"<!-- table {name} -->\nold\n<!-- /table -->" for name in names)
    (docs / "camvid_study.md").write_text(marked)
    folders = {"root": tree, "out": tmp_path / "out", "results": results, "docs": docs}
    main(["--tiny", *(f"--{name}={folder}" for name, folder in folders.items())])
    text = (docs / "camvid_study.md").read_text()
    assert "old" not in text
    found = json.loads(results.read_text())
    assert set(found["runs"]) == {"oracle", "relabelled", "probe", "true"}
    start = found["runs"]["relabelled"][study.BASE]
    assert f"| start | {100 * start['miou']:.1f} |" in text.replace("*", "")
    assert {path.stem for path in (docs / "images").glob("*.png")} == {
        f"camvid_{name}" for name in figures.CHARTS
    }
    renew(docs / "camvid_study.md", tables.tables(found))
    assert (docs / "camvid_study.md").read_text() == text


def test_the_document_shows_the_committed_results():
    if not FILE.exists():
        pytest.skip("no results are committed")
    text = (DOCS / "camvid_study.md").read_text()
    made = tables.tables(json.loads(FILE.read_text()))
    marks = MARKED.findall(text)
    assert marks
    for opening, name, _ in marks:
        assert f"{opening}{made[name]}\n" in text, "run python -m benchmarks.camvid"
