"""The analyses against computation by hand; their figures against their data."""

import io
import subprocess
import sys
import zlib
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import stats

import lpprop
from lpprop.backbones import BackboneOutput
from lpprop.evaluation import Report, SegmenterPredictor, Start, evaluate, refinements
from lpprop.evaluation.analyses import (
    Cropped,
    Ensemble,
    OracleStart,
    ablation,
    changes,
    component_times,
    cumulative,
    image_scatter,
    patch_oracle,
    relabel,
    sweep,
    window_ensemble,
)
from lpprop.evaluation.datasets import Files

CLASSES = ["sky", "road", "tree"]


class Scenes:
    """Blocks of labels, in images of the same blocks in grey."""

    name = "scenes"
    class_names = CLASSES

    def __init__(self, count=5):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        draw = np.random.default_rng(index)
        gt = draw.integers(0, 3, (4, 6)).repeat(8, 0).repeat(8, 1)
        grey = gt * 80 + draw.integers(0, 20, gt.shape)
        image = Image.fromarray(grey.astype(np.uint8)).convert("RGB")
        return SimpleNamespace(name=f"scene-{index}", image=image, gt=gt)


class Start8(OracleStart):
    """The oracle of patches of 8 pixels with noise, and the mean colours as features."""

    def __call__(self, sample):
        start = super().__call__(sample)
        pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)[None] / 255
        return Start(start.logits, F.avg_pool2d(pixels - 0.4, 8))


START = Start8(3, patch_size=8, share=0.3)


def noisy(amount):
    """Give each pixel a random label with a probability that grows with the image's number."""

    def predict(sample):
        number = int(sample.name.rpartition("-")[2])
        draw = np.random.default_rng(number)
        wrong = draw.random(sample.gt.shape) < amount * (1 + number) / 10
        return np.where(wrong, draw.integers(0, 3, sample.gt.shape), sample.gt)

    return predict


@pytest.fixture(scope="module")
def report():
    return evaluate(Scenes(), {"rough": noisy(1.0), "fine": noisy(0.4)})


@pytest.fixture
def render():
    """Draw a figure as a file; warnings, such as of a layout that does not fit, are errors."""
    pytest.importorskip("matplotlib")

    def draw(data):
        figure = data.figure()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=50)
        assert Image.open(buffer).size[0] > 100
        assert data._repr_png_()[:4] == b"\x89PNG"
        return figure

    return draw


class TestImages:
    def test_scatter(self, report, render):
        scatter = image_scatter(report)
        for name in ("rough", "fine"):
            miou = [image.metrics.miou for image in report[name].images]
            boundary = [image.metrics.mean_boundary_iou for image in report[name].images]
            assert scatter.miou[name].tolist() == miou
            assert scatter.boundary_iou[name].tolist() == boundary
            expected = stats.pearsonr(miou, boundary).statistic
            assert scatter.correlation[name] == pytest.approx(expected, abs=1e-12)
        (axis,) = render(scatter).axes
        assert axis.get_xlabel() == "mIoU of the image (%)"
        assert axis.get_ylabel() == "Boundary IoU of the image (%)"
        points = np.column_stack([scatter.miou["fine"], scatter.boundary_iou["fine"]])
        np.testing.assert_allclose(axis.collections[1].get_offsets(), 100 * points)
        assert axis.get_xlim() == axis.get_ylim()
        assert axis.get_xlim()[1] >= 100 * points.max()

    def test_scatter_of_some_predictors_and_of_few_images(self, report, render):
        assert list(image_scatter(report, ["fine"]).miou) == ["fine"]
        alone = evaluate(Scenes(1), {"fine": noisy(0.4)})
        assert np.isnan(image_scatter(alone).correlation["fine"])
        render(image_scatter(alone))
        with pytest.raises(lpprop.InputError, match="'rough', 'fine'"):
            image_scatter(report, ["finest"])

    @pytest.mark.parametrize("metric", ["miou", "boundary_iou"])
    def test_changes_by_image(self, report, render, metric):
        of = {"miou": "miou", "boundary_iou": "mean_boundary_iou"}[metric]
        before, after = (
            [getattr(image.metrics, of) for image in report[name].images]
            for name in ("rough", "fine")
        )
        gains = {f"scene-{i}": after[i] - before[i] for i in range(5)}
        found = changes(report, "rough", "fine", metric=metric)
        assert {row.name: row.change for row in found.rows} == gains
        assert [row.change for row in found.rows] == sorted(gains.values(), reverse=True)
        assert found.mean == pytest.approx(np.mean(list(gains.values())))
        assert (found.better, found.worse) == (5, 0)
        backwards = changes(report, "fine", "rough", metric=metric)
        assert (backwards.better, backwards.worse) == (0, 5)
        (axis,) = render(found).axes
        assert (
            axis.get_xlabel()
            == {
                "miou": "change of mIoU (points)",
                "boundary_iou": "change of Boundary IoU (points)",
            }[metric]
        )
        widths = [bar.get_width() for bar in axis.patches]
        np.testing.assert_allclose(widths, [100 * row.change for row in found.rows])
        assert [text.get_text() for text in axis.get_yticklabels()] == [
            row.name for row in found.rows
        ]

    @pytest.mark.parametrize("metric", ["miou", "boundary_iou"])
    def test_changes_by_class(self, report, render, metric):
        of = {"miou": "iou", "boundary_iou": "boundary_iou"}[metric]
        gains = getattr(report["fine"].metrics, of) - getattr(report["rough"].metrics, of)
        found = changes(report, "rough", "fine", by="class", metric=metric)
        assert {row.name: row.change for row in found.rows} == dict(
            zip(CLASSES, gains, strict=True)
        )
        (axis,) = render(found).axes
        label = {
            "miou": "change of IoU (points)",
            "boundary_iou": "change of Boundary IoU (points)",
        }
        assert axis.get_xlabel() == label[metric]
        assert "| class | rough | fine | change |" in found.to_markdown()

    def test_changes_by_class_pool_the_images_of_both(self):
        """One image that only one of the two has labelled does not count."""

        def failing(sample):
            if sample.name == "scene-2":
                raise ValueError("no")
            return (sample.gt + 1) % 3 if sample.name == "scene-1" else sample.gt

        predictors = {"rough": noisy(1.0), "fails": failing}
        with pytest.warns(UserWarning, match="scene-2"):
            report = evaluate(Scenes(3), predictors, on_error="skip")
        found = changes(report, "rough", "fails", by="class")
        both = evaluate(Scenes(2), predictors)
        gains = both["fails"].metrics.iou - both["rough"].metrics.iou
        assert {row.name: row.change for row in found.rows} == pytest.approx(
            dict(zip(CLASSES, gains, strict=True))
        )

    def test_better_and_worse_differ_in_colour(self, report, render):
        def upset(sample):
            return sample.gt if sample.name == "scene-0" else (sample.gt + 1) % 3

        mixed = evaluate(Scenes(3), {"rough": noisy(1.0), "upset": upset})
        (axis,) = render(changes(mixed, "rough", "upset")).axes
        first, *others = (bar.get_facecolor() for bar in axis.patches)
        assert first not in others
        assert len(set(others)) == 1

    def test_many_images(self, render):
        many = evaluate(Scenes(61), {"rough": noisy(0.1), "fine": noisy(0.05)})
        (axis,) = render(changes(many, "rough", "fine")).axes
        assert axis.get_xlabel() == "images, sorted by change"
        assert axis.get_ylabel() == "change of mIoU (points)"
        heights = [bar.get_height() for bar in axis.patches]
        assert heights == sorted(heights, reverse=True)

    def test_rows_that_one_predictor_lacks_are_left_out(self):
        def no_tree(sample):
            return np.minimum(sample.gt, 1)

        class NoTree(Scenes):
            def __getitem__(self, index):
                sample = super().__getitem__(index)
                sample.gt = np.minimum(sample.gt, 1)
                return sample

        with pytest.warns(lpprop.InputWarning, match="no pixel is of class 'tree'"):
            report = evaluate(NoTree(), {"a": no_tree, "b": no_tree})
        assert [row.name for row in changes(report, "a", "b", by="class").rows] == ["road", "sky"]
        nothing = Report(report.config, {"a": [], "b": []}, images=0, failures={"a": {}, "b": {}})
        with pytest.raises(lpprop.InputError, match="no image"):
            changes(nothing, "a", "b")

    @pytest.mark.parametrize("options", [{"by": "pixel"}, {"metric": "accuracy"}])
    def test_other_choices_are_refused(self, report, options):
        with pytest.raises(lpprop.InputError, match=next(iter(options))):
            changes(report, "rough", "fine", **options)


class TestOracle:
    @pytest.mark.parametrize(("height", "width"), [(16, 24), (13, 22), (3, 50)])
    def test_against_loops(self, height, width):
        draw = np.random.default_rng(0)
        gt = np.where(draw.random((height, width)) < 0.3, 255, draw.integers(0, 4, (height, width)))
        gt[:8, :8] = 255
        got = patch_oracle(gt, 8, 4)
        assert got.shape == (4, -(-height // 8), -(-width // 8))
        for y in range(got.shape[1]):
            for x in range(got.shape[2]):
                patch = gt[8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
                patch = patch[patch != 255]
                shares = [(patch == c).sum() / max(1, patch.size) for c in range(4)]
                np.testing.assert_allclose(got[:, y, x], shares, rtol=1e-6)
        assert got[:, 0, 0].sum() == 0

    def test_against_average_pooling(self):
        gt = torch.from_numpy(Scenes()[0].gt)
        expected = F.avg_pool2d(F.one_hot(gt, 3).permute(2, 0, 1).double(), 6, ceil_mode=True)
        np.testing.assert_allclose(patch_oracle(gt, 6, 3), expected, rtol=1e-6)

    def test_other_labels_are_refused(self):
        with pytest.raises(lpprop.InputError, match=r"^gt: got the label 3"):
            patch_oracle([[3]], 1, 3)

    def test_relabel(self):
        oracle = patch_oracle(np.zeros((100, 120), dtype=int), 1, 5)
        changed = relabel(oracle, share=0.4, seed=7)
        # One class in five is the patch's own.
        differs = (changed != oracle).any(0)
        assert float(differs.float().mean()) == pytest.approx(0.4 * 0.8, abs=0.01)
        np.testing.assert_allclose(changed[1:].mean((1, 2)), 0.4 / 5, atol=0.01)
        assert torch.equal(changed.sum(0), torch.ones(100, 120))
        assert torch.equal(changed, relabel(oracle, share=0.4, seed=7))
        assert not torch.equal(changed, relabel(oracle, share=0.4, seed=8))
        assert torch.equal(relabel(oracle, share=0), oracle)

    def test_a_share_counts_patches(self):
        oracle = torch.full((2, 10, 10), 0.5)
        oracle[:, 0] = 0
        changed = relabel(oracle, share=0.4)
        assert (changed != oracle).any(0).sum() == 36
        assert (changed[:, 0] == 0).all()

    @pytest.mark.parametrize("share", [-0.1, 1.1])
    def test_a_share_is_a_share(self, share):
        with pytest.raises(lpprop.InputError, match=r"^share: "):
            relabel(torch.ones(2, 2, 2), share)
        with pytest.raises(lpprop.InputError, match=r"^share: "):
            OracleStart(2, share=share)

    def test_start(self):
        sample = Scenes()[3]
        oracle = patch_oracle(sample.gt, 16, 3)
        assert torch.equal(OracleStart(3)(sample).logits[0], oracle)
        seed = (5, zlib.crc32(b"scene-3"))
        start = OracleStart(3, share=0.5, seed=5)(sample)
        assert torch.equal(start.logits[0], relabel(oracle, 0.5, seed))
        assert start.inputs == {}

    def test_start_with_a_backbone(self):
        class Colours(torch.nn.Module):
            device = torch.device("cpu")

            def forward(self, image):
                return BackboneOutput((4, 6), feats=F.avg_pool2d(image, 8))

        sample = Scenes()[0]
        start = OracleStart(3, patch_size=8, backbone=Colours())
        pixels = torch.tensor(np.array(sample.image)).permute(2, 0, 1)[None] / 255
        assert torch.equal(start(sample).inputs["feats"], F.avg_pool2d(pixels, 8))
        assert start.fingerprint()["backbone"]["class"] == "Colours"

    def test_cropped(self):
        dataset, cropped = Scenes(), Cropped(Scenes(), 20)
        assert len(cropped) == 5
        assert cropped.class_names == CLASSES
        sample, whole = cropped[2], dataset[2]
        assert sample.name == whole.name
        np.testing.assert_array_equal(sample.gt, whole.gt[:20, :40])
        np.testing.assert_array_equal(sample.image, np.array(whole.image)[:20, :40])


@pytest.fixture(scope="module")
def swept():
    def make(**options):
        return lpprop.presets.lposs(patch_size=8, **options)

    return sweep(Scenes(), START, make, {"k": [2, 24], "sigma": [0.0, 0.05, 0.1]}, limit=3)


class TestSweep:
    def test_duplicate_values_are_refused(self):
        with pytest.raises(lpprop.InputError, match="each value once"):
            sweep(Scenes(), START, "lposs", {"k": [5, 5]})

    def test_each_point(self, swept):
        values = [row.values for row in swept.rows]
        assert values == [{"k": k, "sigma": s} for k in (2, 24) for s in (0.0, 0.05, 0.1)]
        assert len({row.miou for row in swept.rows}) > 1
        for row in swept.rows:
            method = lpprop.presets.lposs(patch_size=8, **row.values)
            alone = evaluate(Scenes(), refinements(START, {"one": method}), limit=3)
            assert row.miou == alone["one"].metrics.miou
            assert row.boundary_iou == alone["one"].metrics.mean_boundary_iou

    def test_best(self, swept):
        assert swept.best.miou == max(row.miou for row in swept.rows)
        k, sigma = swept.best.values.values()
        assert [row.values for row in swept.through_best("k")] == [
            {"k": other, "sigma": sigma} for other in (2, 24)
        ]
        assert [row.values["sigma"] for row in swept.through_best("sigma")] == [0.0, 0.05, 0.1]
        assert all(row.values["k"] == k for row in swept.through_best("sigma"))

    def test_figure(self, swept, render):
        axes = render(swept).axes
        assert [axis.get_ylabel() for axis in axes] == ["mIoU (%)", "", "Boundary IoU (%)", ""]
        assert [axis.get_xlabel() for axis in axes] == ["", "", "k", "sigma"]
        line = axes[1].lines[0]
        np.testing.assert_allclose(line.get_xdata(), [0, 0.05, 0.1])
        expected = [100 * row.miou for row in swept.through_best("sigma")]
        np.testing.assert_allclose(line.get_ydata(), expected)
        ring = axes[3].lines[1]
        assert ring.get_xdata()[0] == swept.best.values["sigma"]
        assert ring.get_ydata()[0] == 100 * swept.best.boundary_iou

    def test_wide_ranges_and_words(self, render):
        method = {"kl": {"nms": [0.9, 0.01]}, "joint_bilateral": {"radius": [1, 2]}}
        wide = sweep(Scenes(), START, "kl", method["kl"], limit=1)
        (upper, _) = render(wide).axes
        assert upper.get_xscale() == "log"
        assert list(upper.lines[0].get_xdata()) == [0.01, 0.9]

        def make(spatial):
            return lpprop.presets.lposs(patch_size=8, spatial=spatial)

        words = sweep(Scenes(), START, make, {"spatial": ["rbf", "none"]}, limit=1)
        (_, lower) = render(words).axes
        assert [text.get_text() for text in lower.get_xticklabels()] == ["rbf", "none"]

    def test_the_start_is_made_once_per_image(self, tmp_path):
        made = []

        def start(sample):
            made.append(sample.name)
            return START(sample)

        grid = {"nms": [0.5, 0.9]}
        sweep(Scenes(), start, "kl", grid, tmp_path, limit=2)
        assert made == ["scene-0", "scene-1"]
        again = sweep(Scenes(), start, "kl", grid, tmp_path, limit=3)
        assert made == ["scene-0", "scene-1", "scene-2"]
        assert again.to_markdown().count("\n| 0.") == 2

    @pytest.mark.parametrize("grid", [{}, {"k": []}])
    def test_an_empty_grid_is_refused(self, grid):
        with pytest.raises(lpprop.InputError, match=r"^grid: "):
            sweep(Scenes(), START, "lposs", grid)

    def test_unknown_options_are_refused(self):
        with pytest.raises(lpprop.InputError, match="Did you mean gamma"):
            sweep(Scenes(), START, "lposs", {"gama": [1]})


class TestContrast:
    CHAIN = lpprop.presets.lposs_plus(k=5, patch_size=8, r=5)

    def test_cumulative(self):
        parts = cumulative(lpprop.presets.max_velocity())
        names = ["ClassDistribution", "MaxVelocity", "JointBilateralUpsample"]
        assert list(parts) == ["start", *(f"+ {name}" for name in names)]
        assert [len(part.steps) for part in parts.values()] == [1, 1, 2, 3]
        twice = lpprop.Chain(lpprop.PatchPropagation(), lpprop.PatchPropagation())
        assert list(cumulative(twice)) == ["start", "+ PatchPropagation", "+ PatchPropagation'"]

    def test_ablation_of_a_chain(self, render):
        found = ablation(Scenes(), START, self.CHAIN, limit=2)
        variants = {
            "start": lpprop.BilinearUpsample(),
            "+ PatchPropagation": lpprop.presets.lposs(k=5, patch_size=8),
            "+ PixelPropagation": self.CHAIN,
        }
        report = evaluate(Scenes(), refinements(START, variants), limit=2)
        base = report["start"].metrics
        for row, name in zip(found.rows, variants, strict=True):
            metrics = report[name].metrics
            assert row.name == name
            assert row.miou == metrics.miou
            assert row.miou_gain == metrics.miou - base.miou
            assert row.boundary_gain == metrics.mean_boundary_iou - base.mean_boundary_iou
        assert found.rows[1].miou_gain != 0
        (axis,) = render(found).axes
        assert axis.get_xlabel() == "%"
        assert [text.get_text() for text in axis.get_yticklabels()] == list(variants)
        widths = [bar.get_width() for bar in axis.patches]
        expected = [100 * row.miou for row in found.rows]
        np.testing.assert_allclose(
            widths, expected + [100 * row.boundary_iou for row in found.rows]
        )
        assert "| start |" in found.to_markdown()
        assert "+0.00" in found.to_markdown()

    def test_window_ensemble(self, render):
        generator = torch.Generator().manual_seed(0)
        noise = {name: torch.rand(3, 32, 48, generator=generator) for name in ("small", "large")}

        def scores(name):
            return lambda sample: (
                F.one_hot(torch.from_numpy(sample.gt)).permute(2, 0, 1) + 1.3 * noise[name]
            )

        found = window_ensemble(Scenes(), {name: scores(name) for name in noise}, limit=2)

        def mean(sample):
            return (scores("small")(sample) + scores("large")(sample)) / 2

        expected = evaluate(Scenes(), {"mean": mean}, limit=2)["mean"].metrics
        assert [row.name for row in found.rows] == ["small", "large", "average"]
        assert found.rows[2].miou == expected.miou
        assert found.rows[2].miou_gain > 0
        render(found)

    def test_an_ensemble_prepares_and_describes_its_members(self):
        members = list(refinements(START, ["kl", "joint_bilateral"]).values())
        ensemble = Ensemble(members)
        sample = Scenes()[0]
        ensemble.prepare(sample)
        expected = torch.stack([member(sample) for member in members]).mean(0)
        assert torch.equal(ensemble(sample), expected)
        assert len(ensemble.fingerprint()["average of"]) == 2

    def test_an_ensemble_of_labels_is_refused(self):
        with pytest.raises(lpprop.InputError, match=r"expected scores \(C, H, W\)"):
            Ensemble([lambda sample: sample.gt])(Scenes()[0])


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("lpprop._core.measure.time", clock)
    return clock


class TestTimes:
    def test_each_step(self, render, clock):
        def start(sample):
            clock.sleep(0.5 + int(sample.name[-1]))
            return START(sample)

        def slow(logits, *, feats, image, attention):
            clock.sleep(2)
            return logits

        def slower(logits, *, feats, image, attention):
            clock.sleep(3)
            return logits

        chain = lpprop.Chain(slow, lpprop.PatchPropagation(k=5), slower, slow)
        methods = {"mine": chain, "kl": "kl", "function": slow}
        # Fitted to the image all the same.
        with pytest.warns(UserWarning, match="as if patches had 8"):
            times = component_times(Scenes(), start, methods, limit=3)
        # Medians over the images 0, 1 and 2.
        assert times.seconds == {
            "mine": {"start": 1.5, "slow": 4, "PatchPropagation": 0, "slower": 3, "rest": 0},
            "kl": {
                "start": 1.5,
                "ClassDistribution": 0,
                "KLDiscrepancy": 0,
                "JointBilateralUpsample": 0,
                "rest": 0,
            },
            "function": {"start": 1.5, "slow": 2, "rest": 0},
        }
        (axis,) = render(times).axes
        assert axis.get_xlabel() == "ms per image (medians)"
        bars = [(bar.get_x(), bar.get_width()) for bar in axis.patches[:5]]
        assert bars == [(0, 1500), (1500, 4000), (5500, 0), (5500, 3000), (8500, 0)]
        shades = [bar.get_facecolor() for bar in axis.patches]
        assert shades[1] == shades[11]  # of the step that two methods have
        assert len(set(shades[:5])) == 5
        assert "| mine | slower | 3000.0 | 35 |" in times.to_markdown()

    def test_time_outside_the_steps(self, clock, monkeypatch):
        def attention(feats):
            clock.sleep(1)
            return torch.full((1, 24, 24), 1 / 24)

        monkeypatch.setattr("lpprop.compose.chain.attention_from_features", attention)
        times = component_times(Scenes(), START, {"velocity": "max_velocity"}, limit=1)
        assert times.seconds["velocity"]["rest"] == 1

    def test_warm_up_does_not_count(self, clock):
        calls = []

        def start(sample):
            calls.append(sample.name)
            clock.sleep(10 if len(calls) == 1 else 1)
            return Start(torch.rand(1, 3, 4, 6))

        times = component_times(Scenes(), start, {"kl": "kl"}, limit=2)
        assert calls == ["scene-0", "scene-0", "scene-1"]
        assert times.seconds["kl"]["start"] == 1


class TestMatplotlib:
    def test_without_matplotlib(self, report, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ImportError, match=r"pip install 'lpprop\[eval\]'"):
            image_scatter(report).figure()

    def test_matplotlib_is_imported_late_and_without_pyplot(self):
        pytest.importorskip("matplotlib")
        script = (
            "import sys\n"
            "from lpprop.evaluation.analyses import image_scatter\n"
            "from lpprop.evaluation.analyses.images import ImageScatter\n"
            "assert 'matplotlib' not in sys.modules\n"
            "import numpy as np\n"
            "ImageScatter({'a': np.array([0.5])}, {'a': np.array([0.4])})._repr_png_()\n"
            "assert 'matplotlib.figure' in sys.modules\n"
            "assert 'matplotlib.pyplot' not in sys.modules\n"
        )
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


class TestOddArguments:
    """Numbers of NumPy work as Python's own; what cannot be used is named before any work."""

    def test_numbers_of_numpy(self):
        gt = np.random.default_rng(0).integers(0, 3, (35, 50))
        small = {"patch_size": np.uint8(16), "classes": np.int8(3), "ignore_index": np.int16(255)}
        assert torch.equal(patch_oracle(gt, **small), patch_oracle(gt, 16, 3))
        oracle = patch_oracle(gt, 4, 3)
        changed = relabel(oracle, np.float32(0.5), np.uint8(7))
        assert torch.equal(changed, relabel(oracle, 0.5, 7))
        assert torch.equal(changed, relabel(oracle, 0.5, [7]))
        assert Cropped(Scenes(), np.int8(20)).name == Cropped(Scenes(), 20).name
        times = component_times(Scenes(2), START, {"kl": "kl"}, limit=np.int8(1), warmup=np.int8(0))
        assert list(times.seconds) == ["kl"]

    def test_a_grid_of_numpy(self):
        grid = {"k": np.array([3, 5], np.int16), "sigma": [np.float64(0), 0.01]}
        method = partial(lpprop.presets.lposs, patch_size=8)
        swept = sweep(Scenes(2), START, method, grid)
        plain = sweep(Scenes(2), START, method, {"k": [3, 5], "sigma": [0.0, 0.01]})
        assert list(swept.report) == list(plain.report)
        assert [row.miou for row in swept.rows] == [row.miou for row in plain.rows]

    @pytest.mark.parametrize(
        "grid", [None, [], 5, {"k": 5}, {"k": "35"}, {"k": {3, 5}}, {"k": np.array([])}, "k"]
    )
    def test_grids(self, grid):
        with pytest.raises(lpprop.InputError, match=r"^grid: "):
            sweep(Scenes(), START, "lposs", grid)

    @pytest.mark.parametrize("seed", [-1, 0.5, None, "seed", [1, -1], True])
    def test_seeds(self, seed):
        with pytest.raises(lpprop.InputError, match=r"^seed: "):
            relabel(torch.ones(2, 3, 3), seed=seed)

    @pytest.mark.parametrize("oracle", [np.ones((2, 3, 3)), torch.ones(3, 3), None, [[1.0]]])
    def test_oracles(self, oracle):
        with pytest.raises(lpprop.InputError, match=r"^oracle: "):
            relabel(oracle)
        with pytest.raises(lpprop.InputError, match=r"^ignore_index: "):
            OracleStart(3, ignore_index=1)

    @pytest.mark.parametrize("what", [None, {}, "run", 5])
    def test_reports_and_data_sets(self, what):
        for call in (image_scatter, lambda report: changes(report, "a", "b")):
            with pytest.raises(lpprop.InputError, match=r"^report: "):
                call(what)
        for call in (
            lambda data: Cropped(data, 16),
            lambda data: component_times(data, START, {"kl": "kl"}),
            lambda data: sweep(data, START, "lposs", {"k": [3]}),
        ):
            with pytest.raises(lpprop.InputError, match=r"^dataset: "):
                call(what)

    @pytest.mark.parametrize(
        "what", [None, 5, "kl", {1, 2}, [], {}, np.array("kl"), [5], {1: "kl"}]
    )
    def test_predictors_and_methods(self, what):
        data, report = Scenes(1), evaluate(Scenes(1), {"kl": noisy(0.1)})
        with pytest.raises(lpprop.InputError, match=r"^methods: "):
            component_times(data, START, what)
        for call in (Ensemble, lambda given: window_ensemble(data, given)):
            with pytest.raises(lpprop.InputError, match=r"^predictors: "):
                call(what)
        if what is not None and not (isinstance(what, list) and not what):
            with pytest.raises(lpprop.InputError, match=r"^predictors?: "):
                image_scatter(report, what)
        if not isinstance(what, str):
            with pytest.raises(lpprop.InputError, match=r"^method: "):
                sweep(data, START, what, {"k": [3]})
        with pytest.raises(lpprop.InputError, match=r"^chain: "):
            cumulative(what)
        with pytest.raises(lpprop.InputError, match=r"^start: "):
            component_times(data, what, {"kl": "kl"})
        with pytest.raises(lpprop.InputError, match=r"^segmenter: "):
            SegmenterPredictor(what, ["a", "b"])

    def test_masks_stay(self):
        """The masked pixels of cut labels do not count; masked scores are in no average."""

        class Masked(Scenes):
            def __getitem__(self, index):
                sample = super().__getitem__(index)
                sample.gt = np.ma.array(sample.gt, mask=sample.gt == 1)
                return sample

        gt = Cropped(Masked(), 20)[0].gt
        plain = Cropped(Scenes(), 20)[0].gt
        expected = patch_oracle(np.where(plain == 1, 255, plain), 10, 3)
        assert torch.equal(patch_oracle(gt, 10, 3), expected)
        masked = np.ma.array(np.ones((2, 1, 1)), mask=True)
        with pytest.raises(lpprop.InputError, match=r"^predictors: got an array with 2 masked"):
            Ensemble([lambda sample: masked])(None)

    def test_cut_files_are_known_again(self, tmp_path):
        """Cut samples of files have their stamps, so that they are not read to be compared."""
        files = Files("a", tmp_path / "a.png", tmp_path / "b.png")
        data = Scenes(1)
        cut = Cropped(data, 8)
        assert getattr(cut[0], "files", None) is None
        sample = SimpleNamespace(**vars(data[0]), files=files)
        assert Cropped(Some([sample]), 8)[0].files == files


class Some(list):
    name, class_names = "some", CLASSES
