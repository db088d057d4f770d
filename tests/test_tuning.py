"""The tuner: its space, its folds, what it finds, how it goes on, and that it does not flatter."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("optuna", reason="the extra tune is not installed")

import lpprop
from lpprop import InputError, presets
from lpprop.evaluation import (
    EvaluationError,
    RefinedStart,
    SegmentationMetrics,
    SegmenterPredictor,
    Start,
    bootstrap,
    difference,
    tune,
)
from lpprop.evaluation.groups import find_groups, guess_groups, make_folds
from lpprop.evaluation.intervals import draw_images
from lpprop.evaluation.tuning import bench as bench_module
from lpprop.evaluation.tuning import run as run_module
from lpprop.evaluation.tuning.result import TuningResult
from lpprop.evaluation.tuning.sources import Kept
from lpprop.evaluation.tuning.space import tuned_options, why_fixed
from lpprop.evaluation.tuning.trials import Trials, Tried
from lpprop.models.recipes import RECIPES

# The grids are of 8 pixels, so that images can be small.
pytestmark = pytest.mark.filterwarnings("ignore:the feats' grid:lpprop.InputWarning")

METHODS = ["lposs", "pamr"]
TRIALS = 11
SIZE = (32, 48)


class Scenes:
    """Three videos of two frames: squares of three classes, coloured by class."""

    name = "scenes"
    class_names = ("sky", "road", "tree")

    def __init__(self, count=6, shade=70):
        self.count, self.shade = count, shade

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        draw = np.random.default_rng(index)
        gt = np.kron(draw.integers(0, 3, (2, 3)), np.ones((16, 16))).astype(np.uint8)
        pixels = gt[..., None] * self.shade + 20 + draw.normal(0, 60, (*SIZE, 3))
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        return SimpleNamespace(name=f"v{index // 2}_{index:03d}", image=image, gt=gt)


class Relabelled(Scenes):
    """Scenes with other labels, but for some images."""

    def __init__(self, labels, but=()):
        super().__init__()
        self.labels, self.but = labels, but

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        if index not in self.but:
            sample.gt = np.vectorize(self.labels.get)(sample.gt).astype(np.uint8)
        return sample


class NoisyStart:
    """Noisy scores, and features that know the truth; it counts its calls."""

    def __init__(self, noise=0.9):
        self.noise, self.calls = noise, []

    def __call__(self, sample):
        self.calls.append(sample.name)
        draw = torch.Generator().manual_seed(int(sample.name[-3:]))
        truth = torch.from_numpy(sample.gt[4::8, 4::8].astype(int)).clamp(max=2)
        one_hot = torch.nn.functional.one_hot(truth, 3).permute(2, 0, 1).float()
        noise = torch.randn(1, 3, 4, 6, generator=draw)
        feats = torch.cat([one_hot, 0.5 * torch.randn(4, 4, 6, generator=draw)])
        return Start(one_hot + self.noise * noise, feats[None])

    def fingerprint(self):
        return {"noise": self.noise}


def search(out, trials=TRIALS, **options):
    options = {"methods": METHODS, "progress": False} | options
    return tune(Scenes(), options.pop("start", NoisyStart()), out, trials=trials, **options)


def settings(result):
    """What was searched, in order, with the scores; without the worth of options."""
    return [(x.method, dict(x.options), x.score) for x in result.tried if x.kind != "worth"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("found")
    return SimpleNamespace(out=out, result=search(out))


class TestSpace:
    @pytest.mark.parametrize("preset", presets.METHODS.values(), ids=lambda preset: preset.name)
    def test_every_option_is_tuned_or_has_a_reason(self, preset):
        tuned = tuned_options(preset, ["feats", "image"])
        assert set(tuned) <= set(preset.options)
        for option in preset.options:
            assert (option in tuned) != bool(why_fixed(preset, option)), option

    @pytest.mark.parametrize("preset", presets.METHODS.values(), ids=lambda preset: preset.name)
    def test_the_ends_of_every_range_can_be_used(self, preset):
        """The refiner's own checks take what the space suggests."""
        if not preset.is_installed:
            pytest.skip("its package is not installed")

        class End:
            def __init__(self, high):
                self.high = high

            def suggest_float(self, name, low, high, log=False):
                return high if self.high else low

            def suggest_int(self, name, low, high, step=1):
                return high if self.high else low

            def suggest_categorical(self, name, choices):
                return choices[-1 if self.high else 0]

        for high in (False, True):
            options = {
                name: allowed.suggest(End(high), name, 900)
                for name, allowed in tuned_options(preset, ["feats", "image"]).items()
            }
            preset(**options)

    def test_k_is_a_share_of_the_patches(self):
        k = tuned_options(presets.lposs, ["feats"])["k"]
        trial = SimpleNamespace(suggest_float=lambda *_, **__: 0.1)
        assert k.suggest(trial, "k", 900) == 90
        assert k.suggest(trial, "k", 4) == 2
        assert k.parameter(90, 900) == pytest.approx(0.1)
        assert k.parameter(4000, 900) == 1

    def test_the_temperature_is_of_attention_from_feats(self):
        assert "temperature" in tuned_options(presets.max_velocity, ["feats", "image"])
        assert "temperature" not in tuned_options(presets.max_velocity, ["attention", "image"])


class TestGroups:
    def test_frames_of_videos(self):
        names = ["0006R0_f00930.png", "0006R0_f01050.png", "0016E5_00390.png", "0016E5_00660.png"]
        assert guess_groups(names) == ["0006R0", "0006R0", "0016E5", "0016E5"]
        assert guess_groups(["ulm_000001_000019", "ulm_000001_000020"]) == ["ulm_000001"] * 2
        assert guess_groups(["0001", "0002", "cat"]) == ["numbered", "numbered", "cat"]

    def test_photographs_of_a_benchmark_are_alone(self):
        names = ["2007_000033", "2007_000042"]
        assert find_groups(SimpleNamespace(name="voc20"), names) == names
        assert len(set(find_groups(SimpleNamespace(name="mine"), names))) == 1

    @pytest.mark.parametrize("folds", [None, 2, 3])
    def test_no_video_is_in_two_folds(self, folds):
        groups = list("aaaabbbccd")
        made = make_folds(groups, list(map(str, range(10))), folds)
        assert sorted(index for fold in made for index in fold.held) == list(range(10))
        for fold in made:
            assert fold.held
            assert not {groups[i] for i in fold.held} & {groups[i] for i in fold.rest}
            assert sorted(fold.held + fold.rest) == list(range(10))

    @pytest.mark.parametrize("count", [4, 7, 12, 24])
    def test_a_single_video_is_cut_into_runs_with_gaps(self, count):
        """By the number in the name, whatever the order of the images; no neighbour is tuned on."""
        order = np.random.default_rng(0).permutation(count)
        names = [f"f{number}" for number in order]
        made = make_folds(["f"] * count, names)
        assert sorted(index for fold in made for index in fold.held) == list(range(count))
        for fold in made:
            held, rest = (sorted(order[list(part)]) for part in fold)
            assert held == list(range(held[0], held[-1] + 1))
            assert rest
            assert min(abs(a - b) for a in held for b in rest) > 1

    def test_digits_that_are_no_numbers(self):
        """A raised 2 is a digit, but int() does not take it; Arabic digits are numbers."""
        names = ["²", "x²", "x١٠", "x٩", "③", "x1"]
        made = make_folds(["a"] * 6, names, 2)
        assert sorted(index for fold in made for index in fold.held) == list(range(6))
        (run,) = (fold.held for fold in make_folds(["a"] * 4, ["x١٠", "x٩", "x1", "x2"], 2)[:1])
        assert set(run) == {2, 3}

    def test_too_few(self):
        for count, got in ((1, "a single image"), (2, "2 images of"), (3, "3 images of one group")):
            with pytest.raises(InputError, match=f"^groups: got {got}.* four images of one video"):
                make_folds(["a"] * count, list("123")[:count])
        assert len(make_folds(["a"] * 4, list("1234"))) == 2
        assert len(make_folds(["a", "b"], list("12"))) == 2
        with pytest.raises(InputError, match="folds"):
            make_folds(["a", "b"], list("12"), 3)


class TestIntervals:
    def metrics(self, error, count=12):
        draw = np.random.default_rng(1)
        gt = draw.integers(0, 3, (count, 8, 8))
        wrong = draw.random(gt.shape) < error
        labels = np.where(wrong, (gt + 1) % 3, gt)
        return [SegmentationMetrics(3).update(*maps) for maps in zip(labels, gt, strict=True)]

    def test_draws_stay_within_videos_and_in_blocks(self):
        groups = ["a"] * 8 + ["x", "y", "z"] + ["b"] * 4
        weights = draw_images(groups, draws=200, block=2)
        assert (weights[:, :8].sum(1) == 8).all()
        assert (weights[:, 8:11].sum(1) == 3).all()
        assert (weights[:, 11:].sum(1) == 4).all()
        assert weights[:, 8:11].std() > 0  # images that are alone are drawn among themselves
        drawn = weights[:, 11:] > 0
        assert (drawn == (np.roll(weights[:, 11:], 1, 1) > 0))[drawn].mean() > 0.5

    def test_a_draw_is_pooled(self):
        images = self.metrics(0.3)
        weights = draw_images(range(12), draws=5)
        for draw in weights:
            pooled = SegmentationMetrics(3)
            for image, times in zip(images, draw, strict=True):
                for _ in range(times):
                    pooled.merge(image)
            drawn = [images[index] for index in np.repeat(range(12), draw)]
            assert bootstrap(drawn).value == pytest.approx(pooled.miou)

    def test_the_interval_is_that_of_many_draws(self):
        images = self.metrics(0.3)
        draw = np.random.default_rng(5)
        values = []
        for _ in range(1000):
            pooled = SegmentationMetrics(3)
            for index in draw.integers(0, 12, 12):
                pooled.merge(images[index])
            values.append(pooled.miou)
        found = bootstrap(images)
        assert found.low == pytest.approx(np.percentile(values, 2.5), abs=0.01)
        assert found.high == pytest.approx(np.percentile(values, 97.5), abs=0.01)

    def test_difference(self):
        before, after = self.metrics(0.4), self.metrics(0.1)
        found = difference(before, after)
        assert 0 < found.low < found.gain < found.high
        assert found.better == 12
        assert difference(before, before) == (0, 0, 0, 0)
        with pytest.raises(InputError, match="after"):
            difference(before, after[:3])
        with pytest.raises(InputError, match="groups"):
            bootstrap(before, ["a"])


class TestSearch:
    def test_the_presets_come_first_and_as_they_are(self, found):
        tried = found.result.tried
        assert [x.method for x in tried[:3]] == ["bilinear", *METHODS]
        assert all(x.kind == "preset" and not x.options for x in tried[:3])
        assert len(settings(found.result)) == TRIALS
        random = [x.method for x in tried[3:7]]  # each method gets a chance
        assert sorted(random) == sorted(METHODS * 2)

    def test_a_score_is_that_of_refine(self, found):
        """Counted in a loop, without the tuner's starts and records."""
        for x in found.result.tried[2:5]:
            metrics, start = SegmentationMetrics(3), NoisyStart()
            method = presets.by_name(x.method, **x.options)
            for sample in (Scenes()[index] for index in range(6)):
                seen = start(sample)
                feats = {"feats": seen.inputs["feats"]} if "feats" in method.takes else {}
                scores = lpprop.refine(seen.logits, image=sample.image, method=method, **feats)
                metrics.update(scores[0].argmax(0), sample.gt)
            assert x.score == pytest.approx(metrics.miou)

    def test_the_best_is_the_highest_score(self, found):
        result = found.result
        best = max(x.score for x in result.tried)
        simplest = min(len(x.options) for x in result.tried if x.score == best)
        assert (result.chosen.score, len(result.chosen.options)) == (best, simplest)
        assert best >= max(score for *_, score in settings(result))
        assert result.chosen.method == "lposs"  # since the features know the truth
        assert result.chosen.score > result.tried[0].score

    def test_the_line_of_python_rebuilds_it_to_the_bit(self, found):
        sample = Scenes()[0]
        start = NoisyStart()(sample)
        given = (start.logits, start.inputs["feats"], sample.image)
        rebuilt = eval(found.result.python, {"lpprop": lpprop})
        assert repr(rebuilt) == repr(found.result.best)
        first, second = (
            lpprop.refine(*given, method=method) for method in (rebuilt, found.result.best)
        )
        assert torch.equal(first, second)

    @pytest.mark.parametrize("source", ["vit-b/16", "vit-b/8", "dinov2"])
    @pytest.mark.parametrize(
        "options", [{"gamma": 3.0}, {"gamma": 7.0, "k": 400}, {"gamma": 5.0, "k": 50}, {}]
    )
    def test_the_line_of_python_is_right_for_every_model(self, source, options):
        """The values of one model are not left out as those of another's."""
        counts = np.array([[[1, 2]], [[2, 2]]])
        own = {"lposs": {"feats_from": source, "patch_size": 14}, "bilinear": {}}
        every = [Tried("search", "lposs", options, 0.0, counts)]
        folds = make_folds(["a", "b"], ["a", "b"])
        result = TuningResult({}, ["a", "b"], ["a", "b"], folds, every, own, "trials", 0.0)
        rebuilt = eval(result.python, {"lpprop": lpprop})
        assert repr(rebuilt) == repr(presets.lposs(**own["lposs"], **options))
        assert repr(rebuilt) == repr(result.best)

    def test_starts_are_made_once(self, tmp_path):
        start = NoisyStart()
        search(tmp_path, trials=5, start=start)
        # The first one tells which inputs there are.
        assert sorted(start.calls) == sorted([Scenes()[0].name, *(x.name for x in scenes())])

    def test_starts_beyond_the_bound_are_in_files(self, tmp_path):
        kept = Kept(tmp_path, in_memory=4 * 3 * 24 + 4 * 7 * 24)
        starts = [NoisyStart()(sample) for sample in scenes()]
        for start in starts:
            kept.add(start)
        assert len(list(tmp_path.rglob("*.pt"))) == 5
        for index, start in enumerate(starts):
            assert torch.equal(kept[index].logits, start.logits)
            assert torch.equal(kept[index].inputs["feats"], start.inputs["feats"])
        kept.close()
        assert not list(tmp_path.iterdir())

    def test_the_same_seed_searches_the_same(self, found, tmp_path):
        assert settings(search(tmp_path / "same")) == settings(found.result)
        other = settings(search(tmp_path / "other", trials=4, seed=1))
        assert other[:3] == settings(found.result)[:3]
        assert other[3] != settings(found.result)[3]

    def test_methods_are_those_that_the_start_allows(self, tmp_path):
        result = tune(
            Scenes(), lambda s: Start(NoisyStart()(s).logits), tmp_path, trials=1, progress=False
        )
        assert "pamr" in result.methods
        assert "lposs" not in result.methods
        with pytest.raises(InputError, match="needs feats"):
            search(tmp_path / "b", start=lambda s: Start(NoisyStart()(s).logits))

    def test_scores_of_fewer_classes_are_refused(self, tmp_path):
        """As evaluate refuses them; the first images may well have them all."""

        class Third(NoisyStart):
            def __call__(self, sample):
                start = super().__call__(sample)
                classes = 2 if sample.name == "v1_002" else 3
                return Start(start.logits[:, :classes], start.inputs["feats"])

        with pytest.raises(
            InputError, match=r"start: got logits of shape \(1, 2, 4, 6\) for v1_002"
        ):
            search(tmp_path, start=Third())

    def test_a_refined_result_of_fewer_classes_fails(self, tmp_path, monkeypatch):
        """A setting whose scores lack a class is not counted."""
        whole = RefinedStart.__call__
        monkeypatch.setattr(RefinedStart, "__call__", lambda *a: whole(*a)[:2])
        with pytest.raises(EvaluationError, match=r"the start cannot be scored.*\(3, H, W\)"):
            search(tmp_path)

    def test_a_start_that_is_none_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="start: got NoneType for v0_000, expected a Start"):
            search(tmp_path, start=lambda sample: None)

    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            ({0: 0, 1: 255, 2: 255}, "labels: all pixels that count are of class 0, 'sky'"),
            ({0: 0, 1: 1, 2: 0}, r"labels: no pixel is of class 'tree' \(2\)"),
        ],
    )
    def test_doubtful_labels_are_told(self, tmp_path, labels, said):
        """As evaluate tells them, and beside the result."""
        with pytest.warns(lpprop.InputWarning, match=said):
            result = tune(
                Relabelled(labels), NoisyStart(), tmp_path, methods=["pamr"], trials=2,
                progress=False,
            )  # fmt: skip
        (doubt,) = result.doubts
        assert f"Doubtful: {doubt}" in (tmp_path / "tuning.md").read_text()
        assert json.loads((tmp_path / "tuning.json").read_text())["doubts"] == [doubt]

    def test_nothing_is_doubtful(self, found):
        assert not found.result.doubts
        assert "Doubtful" not in found.result.to_markdown()

    def test_labels_of_which_no_pixel_counts_are_refused(self, tmp_path):
        with pytest.raises(InputError, match="labels: got label maps in which every pixel is 255"):
            tune(
                Relabelled({0: 255, 1: 255, 2: 255}), NoisyStart(), tmp_path, methods=["pamr"],
                trials=2, progress=False,
            )  # fmt: skip

    def test_images_of_which_no_pixel_counts_make_no_nan(self, tmp_path):
        """A draw of these images alone says nothing, and is left out of the interval."""
        dataset = Relabelled({0: 255, 1: 255, 2: 255}, but=(1, 3))
        result = tune(
            dataset, NoisyStart(), tmp_path, methods=["pamr"], trials=3,
            groups=list("abcdef"), progress=False,
        )  # fmt: skip
        assert np.isfinite(result.rows[-1].held_out).all()
        assert all(np.isfinite(verdict.difference).all() for verdict in result.verdicts)
        assert "nan" not in result.to_markdown()

    def test_a_setting_that_fails_is_left_out(self, tmp_path, monkeypatch):
        def fails(*_):
            raise RuntimeError("too hard")

        monkeypatch.setattr(lpprop.refiners.PAMR, "_call", fails)
        result = search(tmp_path, trials=5)
        assert {x.method for x in result.tried if x.failed} == {"pamr"}
        assert "pamr(): RuntimeError: too hard" in result.to_markdown()
        assert result.methods == ["bilinear", "lposs"]

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"methods": []}, "methods"),
            ({"methods": ["lpos"]}, "method"),
            ({"trials": 0}, "trials"),
            ({"trials": None}, "trials"),
            ({"minutes": 0}, "minutes"),
            ({"metric": "iou"}, "metric"),
            ({"seed": -1}, "seed"),
            ({"groups": ["a"]}, "groups"),
            ({"groups": ["a"] * 6, "folds": 4}, "folds"),
            ({"start": 5}, "start"),
        ],
    )
    def test_wrong_arguments_are_refused_before_any_work(self, tmp_path, options, word):
        start = NoisyStart()
        with pytest.raises(InputError, match=rf"^{word}: "):
            search(tmp_path, **({"start": start} | options))
        assert not start.calls
        assert not list(tmp_path.iterdir())


def scenes():
    return [Scenes()[index] for index in range(6)]


class TestResult:
    def test_held_out_by_hand(self, found):
        """Each video by the setting that is best on the two others, chosen in a plain loop."""
        result = found.result
        pooled = np.zeros((3, 2))
        for held in ((0, 1), (2, 3), (4, 5)):
            rest = [index for index in range(6) if index not in held]

            def score(x, rest=rest):
                part, whole = x.counts[rest].sum(0).T
                return np.mean(part / whole), -len(x.options)

            pooled += max(result.tried, key=score).counts[list(held)].sum(0)
        row = result.rows[-1]
        assert row.held_out.value == pytest.approx(np.mean(pooled[:, 0] / pooled[:, 1]))
        assert row.tuned == result.chosen.score
        assert row.optimism == pytest.approx(row.tuned - row.held_out.value)
        assert row.held_out.low <= row.held_out.value <= row.held_out.high

    def test_presets_have_plain_scores(self, found):
        rows = {row.method: row for row in found.result.rows}
        assert rows["bilinear"].held_out is None
        assert rows["bilinear"].preset.value == pytest.approx(found.result.tried[0].score)
        assert rows["lposs"].preset.value == pytest.approx(found.result.tried[1].score)

    def test_options_that_do_nothing_show_optimism_but_no_gain(self):
        """Many settings that differ by luck alone: the choice flatters itself, the verdict not."""
        draw = np.random.default_rng(0)

        def tried(kind, options):
            hits = draw.integers(40, 60, (40, 2))
            counts = np.stack([hits, np.full_like(hits, 100)], axis=-1)
            return Tried(kind, "lposs", options, 0.0, counts)

        names = [f"{index}" for index in range(40)]
        folds = make_folds(names, names)
        start = Tried("preset", "bilinear", {}, 0.0, tried("preset", {}).counts)
        every = [start, tried("preset", {}), *(tried("search", {"k": k}) for k in range(2, 80))]
        config = {"dataset": {"name": "luck"}, "tuning": {"metric": "miou"}}
        own = {"lposs": {}, "bilinear": {}}
        result = TuningResult(config, names, names, folds, every, own, "trials", 0.0)
        assert result.rows[-1].optimism > 0.01
        assert not any(verdict.beyond_chance for verdict in result.verdicts)
        assert "no more than chance" in result.to_markdown()

    def test_verdicts_are_paired_differences(self, found):
        first = found.result.verdicts[0]
        assert first.over == "the start"
        gain = found.result.rows[-1].held_out.value - found.result.tried[0].score
        assert first.difference.gain == pytest.approx(gain)
        assert first.beyond_chance == (first.difference.low > 0)
        assert ("beyond chance" in str(first)) == first.beyond_chance

    def test_the_worth_of_an_option(self, found):
        """The best, with one option at the preset's value, against the best."""
        result = found.result
        assert {x.option for x in result.worth} == set(result.chosen.options)
        one = result.worth[0]
        assert all(x.difference.gain > 0 for x in result.worth)  # or it would have been put back
        assert one.preset == presets.lposs.options[one.option]
        others = {k: v for k, v in result.chosen.options.items() if k != one.option}
        metrics, start = SegmentationMetrics(3), NoisyStart()
        for sample in scenes():
            seen = start(sample)
            method = presets.lposs(**others)
            scores = lpprop.refine(seen.logits, seen.inputs["feats"], sample.image, method=method)
            metrics.update(scores[0].argmax(0), sample.gt)
        assert one.difference.gain == pytest.approx(result.chosen.score - metrics.miou)

    def test_the_files_say_the_same(self, found):
        stored = json.loads((found.out / "tuning.json").read_text())
        assert stored["python"] == found.result.python
        assert stored["rows"][-1]["tuned"] == found.result.rows[-1].tuned
        assert stored["folds"] == [[f"v{v}_{2 * v + i:03d}" for i in (0, 1)] for v in range(3)]
        text = (found.out / "tuning.md").read_text()
        assert text == found.result.to_markdown()
        assert "3 folds of 3 groups, each group in one fold: v0 (2 images), v1 (2), v2 (2)" in text
        assert found.result.python in text

    def test_another_metric(self, tmp_path):
        result = search(tmp_path, trials=3, metric="boundary_iou")
        metrics = SegmentationMetrics(3)
        for sample in scenes():
            scores = lpprop.refine(
                NoisyStart()(sample).logits, image=sample.image, method="bilinear"
            )
            metrics.update(scores[0].argmax(0), sample.gt)
        assert result.tried[0].score == pytest.approx(metrics.mean_boundary_iou)
        assert "preset: Boundary IoU" in result.table()


class TestGoingOn:
    def test_a_stopped_search_goes_on_as_if_it_had_not_been(self, found, tmp_path):
        for trials in (2, 5, 8, 9):
            result = search(tmp_path, trials=trials)
        assert settings(result) == settings(found.result)[:9]

    def test_an_ended_search_costs_nothing_again(self, tmp_path, monkeypatch):
        result = search(tmp_path, trials=4)
        monkeypatch.setattr(bench_module.Bench, "__call__", None)
        assert settings(search(tmp_path, trials=4)) == settings(result)

    def test_ctrl_c_ends_with_the_result_so_far(self, found, tmp_path, monkeypatch):
        whole, calls = bench_module.Bench.__call__, []

        def interrupted(self, *arguments):
            calls.append(1)
            if len(calls) == 8:
                raise KeyboardInterrupt
            return whole(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(bench_module.Bench, "__call__", interrupted)
            result = search(tmp_path)
        assert result.stopped == "interrupted"
        assert settings(result) == settings(found.result)[:7]
        assert (tmp_path / "tuning.md").exists()
        assert settings(search(tmp_path, trials=9)) == settings(found.result)[:9]

    def test_minutes_bound_a_call(self, tmp_path, monkeypatch):
        result = search(tmp_path, trials=None, minutes=1e-9)
        assert result.stopped == "minutes"
        assert result.methods == ["bilinear"]
        assert search(tmp_path, trials=4).stopped == "trials"

    @pytest.mark.parametrize(
        ("trials", "minutes", "counts"),
        [(None, 14, (12, 2)), (11, 13, (11, 2)), (11, 100, (11, None))],
    )
    def test_minutes_bound_putting_options_back_too(
        self, tmp_path, monkeypatch, trials, minutes, counts
    ):
        """A clock on which each setting takes a minute."""
        now, whole = [0.0], bench_module.Bench.__call__

        def a_minute(self, *arguments):
            now[0] += 60
            return whole(self, *arguments)

        monkeypatch.setattr(bench_module.Bench, "__call__", a_minute)
        monkeypatch.setattr(run_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
        result = search(tmp_path, trials=trials, minutes=minutes)
        kinds = [x.kind == "worth" for x in result.tried]
        searched, back = kinds.count(False), kinds.count(True)
        assert searched == counts[0]
        assert back == counts[1] if counts[1] else back > 0
        assert result.stopped == ("minutes" if counts[1] else "trials")
        text = result.to_markdown()
        assert f"{searched} settings and {back} with an option put back on 6 images" in text
        assert ("before each of its options was put back" in text) == bool(counts[1])

    def test_ctrl_c_while_options_are_put_back(self, tmp_path, monkeypatch):
        whole, back = bench_module.Bench.__call__, []

        def interrupted(self, kind, *arguments):
            if kind == "worth":
                back.append(1)
                if len(back) == 2:
                    raise KeyboardInterrupt
            return whole(self, kind, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(bench_module.Bench, "__call__", interrupted)
            result = search(tmp_path)
        assert result.stopped == "interrupted"
        assert json.loads((tmp_path / "tuning.json").read_text())["stopped"] == "interrupted"
        again, at_once = search(tmp_path), search(tmp_path / "other")
        assert again.stopped == "trials"
        assert [x.key for x in again.tried] == [x.key for x in at_once.tried]

    def test_a_line_that_is_cut_off_is_tried_again(self, tmp_path):
        search(tmp_path, trials=3)
        path = tmp_path / "trials.jsonl"
        whole = path.read_bytes()
        path.write_bytes(whole[:-30])
        with pytest.warns(lpprop.InputWarning, match="1 lines .* cut off"):
            result = search(tmp_path, trials=3)
        assert len(settings(result)) == 3

    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"seed": 1}, r"tuning\.seed = 0"),
            ({"methods": ["lposs"]}, r"tuning\.methods"),
            ({"start": NoisyStart(0.5)}, r"start\.start\.noise = 0.9"),
            ({"groups": list("aabbcd")}, r"tuning\.(folds|groups)"),
            ({"metric": "boundary_iou"}, r"tuning\.metric"),
        ],
    )
    def test_another_search_is_refused(self, found, options, what):
        with pytest.raises(InputError, match=what):
            search(found.out, **options)

    def test_other_images_are_refused(self, found):
        with pytest.raises(InputError, match=r"tuning\.content"):
            tune(Scenes(shade=60), NoisyStart(), found.out, methods=METHODS, progress=False)

    @pytest.mark.parametrize(
        ("harm", "said"),
        [
            (lambda whole: b"x" * 5000, "cannot be read .*file is not a database"),
            (lambda whole: whole[: len(whole) // 2], "cannot be read .*malformed"),
            (lambda whole: b"", "without 4 of the 4 trials of trials.jsonl"),
            (None, "without 4 of the 4 trials of trials.jsonl"),
        ],
        ids=["junk", "cut", "empty", "gone"],
    )
    def test_a_study_that_is_damaged_or_gone_is_refused(self, tmp_path, harm, said):
        """It would number its trials from 0 again, beside those of the same numbers."""
        before = settings(search(tmp_path, trials=5))
        path = tmp_path / "tuning.db"
        whole = path.read_bytes()
        path.unlink()
        if harm is not None:
            path.write_bytes(harm(whole))
        for _ in range(2):
            with pytest.raises(
                InputError, match=rf"^out: got .*tuning\.db,? (which )?{said}"
            ) as refused:
                search(tmp_path, trials=6)
            assert "\n" not in str(refused.value)
            assert "remove the whole folder" in str(refused.value)
        path.write_bytes(whole)
        assert settings(search(tmp_path, trials=6))[:5] == before

    def test_lines_survive_a_round(self, tmp_path):
        counts = np.zeros((2, 3, 2), np.int64)
        counts[1, 2] = (4, 9)
        counts[0, 1] = (0, 5)
        trials = Trials(tmp_path, (2, 3))
        trials.add(Tried("search", "pamr", {"dilations": (8, 16)}, 0.5, counts, 3))
        (again,) = Trials(tmp_path, (2, 3)).every
        assert again.options == {"dilations": (8, 16)}
        assert np.array_equal(again.counts, counts)
        assert Trials(tmp_path, (1, 3)).every == []  # of other images

    def test_a_kill_loses_the_trial_at_work_alone(self, found, tmp_path):
        code = (
            "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path; "
            "import test_tuning; test_tuning.search(Path(sys.argv[1]), trials=1000)"
        )
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        arguments = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
        process = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE)
        path, end = tmp_path / "trials.jsonl", time.monotonic() + 120
        while not path.exists() or path.read_bytes().count(b"\n") < 5:
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
        done = path.read_bytes().count(b"\n")
        result = search(tmp_path, trials=max(9, done))
        assert settings(result)[:9] == settings(found.result)[:9]


class TestModels:
    def test_a_recipe_runs_its_models_once_and_scores_as_eval(self, tmp_path, monkeypatch):
        pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
        recipe = RECIPES["offline"]
        prompts = ["cat; lynx", "sofa", "tree = daisy"]
        predictor = SegmenterPredictor(_small(recipe), prompts, recipe)
        calls = []
        whole = type(predictor.segmenter.backbone).forward

        def counted(self, *arguments, **options):
            calls.append(1)
            return whole(self, *arguments, **options)

        monkeypatch.setattr(type(predictor.segmenter.backbone), "forward", counted)
        result = tune(Scenes(), predictor, tmp_path, methods=["lposs"], trials=3, progress=False)
        assert len(calls) == 7
        chosen = result.tried[2]
        own = recipe.with_method("lposs").options
        segmenter = _small(recipe.with_method("lposs", **own | chosen.options))
        metrics = SegmentationMetrics(3)
        for sample in scenes():
            metrics.update(segmenter(sample.image, prompts).labels[0], sample.gt)
        assert chosen.score == pytest.approx(metrics.miou)


def _small(recipe):
    """The recipe's segmenter with random weights, which sees small images."""
    from lpprop.backbones import EfficientNetLite0
    from lpprop.models.segmenter import Segmenter

    torch.manual_seed(0)
    return Segmenter(EfficientNetLite0(), method=recipe.method, shorter_side=64, **recipe.options)
