"""The runner: killed, continued, spread over processes, always with the same counts."""

import contextlib
import dataclasses
import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop._core.errors import warn
from lpprop._core.progress import LINE_SECONDS
from lpprop.evaluation import (
    EvaluationError,
    Predictor,
    Report,
    SegmentationMetrics,
    SegmenterPredictor,
    Start,
    evaluate,
    refinements,
)
from lpprop.evaluation.analyses.oracle import OracleStart
from lpprop.evaluation.content import is_unchanged
from lpprop.evaluation.datasets import dataset_from_folders
from lpprop.evaluation.fingerprints import describe, hash_weights
from lpprop.evaluation.recipe_predictors import method_recipes, recipe_predictors
from lpprop.evaluation.segmenters import share_models
from lpprop.models.recipes import RECIPES, Model

CLASSES = ["sky", "road", "tree"]


class Scenes:
    """Random label maps with names; an image is its labels in grey."""

    name = "scenes"
    class_names = CLASSES

    def __init__(self, count=6):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        draw = np.random.default_rng(index)
        gt = draw.integers(0, 3, (4, 5)).repeat(8, 0).repeat(8, 1)
        gt[:2] = 255
        image = Image.fromarray((gt * 60 % 256).astype(np.uint8)).convert("RGB")
        return SimpleNamespace(name=f"scene-{index}", image=image, gt=gt)


class Shifted(Predictor):
    """The true labels, shifted; it can keep a diary, be slow, fail, or take its process down."""

    def __init__(self, by, diary=None, seconds=0, fails=(), dies=()):
        self.by, self.diary, self.seconds = by, diary, seconds
        self.fails, self.dies = tuple(fails), tuple(dies)

    def __call__(self, sample):
        if self.diary is not None:
            with self.diary.open("a") as file:
                file.write(f"{sample.name} {os.getpid()} {torch.get_num_threads()}\n")
        time.sleep(self.seconds)
        if sample.name in self.dies:
            os._exit(7)
        if sample.name in self.fails:
            raise ValueError("too hard")
        return np.roll(np.where(sample.gt == 255, 0, sample.gt), self.by, axis=1)

    def fingerprint(self):
        return {"by": self.by}


class Unloadable:
    def __call__(self, sample):
        return sample.gt

    def __reduce__(self):
        return (int, ("not a number",))


def pooled(by, images):
    metrics = SegmentationMetrics(3)
    for index in images:
        sample = Scenes()[index]
        metrics.update(Shifted(by)(sample), sample.gt)
    return metrics.to_dict()


def counts(report, name):
    return report[name].metrics.to_dict()


def read(diary):
    return [line.split() for line in diary.read_text().splitlines()] if diary.is_file() else []


@pytest.fixture
def diary(tmp_path):
    return tmp_path / "diary"


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run"


class TestResults:
    def test_counts_are_those_of_the_metrics(self, out):
        report = evaluate(Scenes(), {"one": Shifted(1), "three": Shifted(3)}, out)
        assert counts(report, "one") == pooled(1, range(6))
        assert counts(report, "three") == pooled(3, range(6))
        assert list(report) == ["one", "three"]

    def test_metrics_of_single_images(self):
        report = evaluate(Scenes(), {"one": Shifted(1)})
        assert [image.name for image in report["one"].images] == [f"scene-{i}" for i in range(6)]
        for index, image in enumerate(report["one"].images):
            assert image.metrics.to_dict() == pooled(1, [index])
            assert report["one"].image_miou[index] == image.metrics.miou
            assert report["one"].image_boundary_iou[index] == image.metrics.mean_boundary_iou

    def test_pixels_of_each_class(self, out):
        """True and predicted pixels, in the table, the rows and the file, where both count."""
        report = evaluate(Scenes(), {"one": Shifted(1), "zero": Shifted(0)}, out, limit=3)
        rows = {(row.predictor, row.name): row for row in report.class_rows()}
        assert list(rows) == [(name, one) for name in ("one", "zero") for one in CLASSES]
        stored = json.loads((out / "results.json").read_text())["predictors"]
        lines = report.class_table().splitlines()
        assert lines[0].startswith("| class | true pixels | one: predicted | one: IoU | one: bound")
        for number, name in enumerate(CLASSES):
            cells = [cell.strip() for cell in lines[2 + number].split("|")[1:-1]]
            for place, by in enumerate((1, 0)):
                true = predicted = both = 0
                for index in range(3):
                    sample = Scenes()[index]
                    labels, counted = Shifted(by)(sample), sample.gt != 255
                    true += ((sample.gt == number) & counted).sum()
                    predicted += ((labels == number) & counted).sum()
                    both += ((labels == number) & (sample.gt == number)).sum()
                row = rows["one" if by else "zero", name]
                assert (row.true_pixels, row.predicted_pixels) == (true, predicted)
                assert row.iou == both / (true + predicted - both)
                assert stored[place]["true_pixels"][number] == true
                assert stored[place]["predicted_pixels"][number] == predicted
                assert cells[:2] == [name, f"{true:,}"]
                assert cells[2 + 3 * place] == f"{predicted:,}"
        assert f"\n{lines[0]}\n" in (out / "results.md").read_text()

    @pytest.mark.parametrize("kind", [np.asarray, torch.tensor])
    def test_scores_and_labels(self, kind):
        def scores(sample):
            return kind(np.eye(3)[Shifted(1)(sample)].transpose(2, 0, 1))

        def labels(sample):
            return kind(Shifted(1)(sample))

        report = evaluate(Scenes(), {"scores": scores, "labels": labels})
        assert counts(report, "scores") == counts(report, "labels") == pooled(1, range(6))

    def test_settings_of_the_metrics(self):
        report = evaluate(Scenes(), {"one": Shifted(1)}, dilation_ratio=0.2, limit=2)
        expected = SegmentationMetrics(3, dilation_ratio=0.2)
        for index in range(2):
            expected.update(Shifted(1)(Scenes()[index]), Scenes()[index].gt)
        assert counts(report, "one") == expected.to_dict()

    def test_nothing_is_written_without_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        evaluate(Scenes(), {"one": Shifted(1)}, limit=1)
        assert list(tmp_path.iterdir()) == []

    def test_preparation_is_not_timed(self, monkeypatch):
        seconds = iter(range(100))
        now = [0.0]
        clock = SimpleNamespace(perf_counter=lambda: now[0])
        monkeypatch.setattr("lpprop._core.measure.time", clock)

        class Prepared(Shifted):
            def prepare(self, sample):
                now[0] += 100

            def __call__(self, sample):
                now[0] += next(seconds)
                return super().__call__(sample)

        report = evaluate(Scenes(), {"one": Prepared(1)})
        assert [image.seconds for image in report["one"].images] == [0, 1, 2, 3, 4, 5]
        assert report["one"].seconds == report.rows()[0].seconds == 2.5

    @pytest.mark.parametrize(("shown", "expected"), [(True, True), (False, False), (None, False)])
    def test_progress(self, capsys, shown, expected):
        evaluate(Scenes(), {"one": Shifted(1)}, progress=shown)
        assert ("6/6" in capsys.readouterr().err) is expected


class TestContinuation:
    def test_done_images_are_not_done_again(self, out, diary):
        evaluate(Scenes(), {"one": Shifted(1, diary)}, out, limit=2)
        report = evaluate(Scenes(), {"one": Shifted(1, diary)}, out)
        assert [name for name, *_ in read(diary)] == [f"scene-{i}" for i in range(6)]
        assert counts(report, "one") == pooled(1, range(6))

    def test_a_smaller_limit_reports_fewer_images(self, out):
        evaluate(Scenes(), {"one": Shifted(1)}, out)
        report = evaluate(Scenes(), {"one": Shifted(1)}, out, limit=2)
        assert counts(report, "one") == pooled(1, range(2))

    def test_a_further_predictor(self, out, diary):
        evaluate(Scenes(), {"one": Shifted(1, diary)}, out)
        report = evaluate(Scenes(), {"one": Shifted(1, diary), "two": Shifted(2)}, out)
        assert len(read(diary)) == 6
        assert counts(report, "two") == pooled(2, range(6))
        evaluate(Scenes(), {"three": Shifted(3)}, out)
        assert list(Report.load(out)) == ["one", "two", "three"]
        # What is written shows all that is in the folder, also of the earlier calls.
        written = (out / "results.md").read_text()
        assert all(f"| {name} |" in written for name in ("one", "two", "three"))
        evaluate(Scenes(), {"two": Shifted(2)}, out, limit=2)
        assert (out / "results.md").read_text() == written

    @pytest.mark.parametrize("keep", [0, 1, 40, -1, -20])
    def test_a_line_that_was_cut_off_is_done_again(self, out, keep):
        expected = evaluate(Scenes(), {"one": Shifted(1)}, out)
        lines = (out / "one.jsonl").read_bytes().splitlines(keepends=True)
        (out / "one.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:keep])
        told = pytest.warns(lpprop.InputWarning, match="1 line of .*one.jsonl")
        with told if keep else contextlib.nullcontext():
            report = evaluate(Scenes(), {"one": Shifted(1)}, out)
        assert counts(report, "one") == counts(expected, "one")
        again = [json.loads(line) for line in (out / "one.jsonl").read_text().splitlines()]
        assert [record["index"] for record in again] == list(range(6))

    def test_a_damaged_line_is_done_again(self, out, diary):
        evaluate(Scenes(), {"one": Shifted(1)}, out)
        lines = (out / "one.jsonl").read_bytes().splitlines(keepends=True)
        lines[2] = b"\0" * 50 + b"\n"
        lines[4] = b"[]\n"
        (out / "one.jsonl").write_bytes(b"".join(lines))
        with pytest.warns(lpprop.InputWarning, match="2 lines of .*one.jsonl"):
            report = evaluate(Scenes(), {"one": Shifted(1, diary)}, out)
        assert [name for name, *_ in read(diary)] == ["scene-2", "scene-4"]
        assert counts(report, "one") == pooled(1, range(6))
        assert len((out / "one.jsonl").read_text().splitlines()) == 6

    @pytest.mark.parametrize("name", ["a/b", "lposs+", "k=50, sigma=0.01", "ü: ?"])
    def test_any_name(self, out, name):
        evaluate(Scenes(), {name: Shifted(1)}, out, limit=3)
        evaluate(Scenes(), {name: Shifted(1)}, out)
        assert counts(Report.load(out), name) == pooled(1, range(6))

    def test_another_configuration_is_refused(self, out, monkeypatch):
        evaluate(Scenes(), {"one": Shifted(1)}, out)
        before = {file.name: file.read_bytes() for file in out.iterdir()}

        def refused(where, *args, **options):
            with pytest.raises(lpprop.InputError, match=where) as raised:
                evaluate(*args, out, **options)
            assert str(raised.value).startswith("out: ")

        one = {"one": Shifted(1)}
        refused("dataset.samples = 6, expected 5", Scenes(5), one)
        refused(r"metrics.dilation_ratio = 0\.02", Scenes(), one, dilation_ratio=0.1)
        refused("one.by = 1, expected 2", Scenes(), {"one": Shifted(2)})
        other = Scenes()
        other.name = "others"
        refused('dataset.name = "scenes", expected "others"', other, one)
        other = Scenes()
        other.names = [f"other-{index}" for index in range(6)]
        refused("dataset.names = null", other, one)
        other = Scenes()
        other.labels_from = "drawings"
        refused('dataset.labels_from = null, expected "drawings"', other, one)
        monkeypatch.setattr("lpprop._version.__version__", "99")
        refused(r'versions.lpprop = ".*", expected "99"', Scenes(), one)
        assert {file.name: file.read_bytes() for file in out.iterdir()} == before

    def test_a_damaged_configuration_is_refused(self, out):
        out.mkdir()
        (out / "config.json").write_text("{")
        with pytest.raises(lpprop.InputError, match="damaged"):
            evaluate(Scenes(), {"one": Shifted(1)}, out)

    def test_one_run_per_folder(self, out):
        pytest.importorskip("fcntl")

        class Nested(Shifted):
            def __call__(self, sample):
                with pytest.raises(lpprop.InputError, match="another run is at work"):
                    evaluate(Scenes(), {"one": Shifted(1)}, out)
                return super().__call__(sample)

        evaluate(Scenes(), {"one": Nested(1)}, out, limit=1)
        evaluate(Scenes(), {"one": Shifted(1)}, out)


def a_folder(root, draw=0, suffix=".png"):
    """Images and labels of two scenes in files."""
    for index in range(2):
        noise = np.random.default_rng((draw, index))
        for part, values in (("images", 256), ("labels", 3)):
            (root / part).mkdir(parents=True, exist_ok=True)
            pixels = noise.integers(0, values, (12, 16), dtype=np.uint8)
            kind = suffix if part == "images" else ".png"
            Image.fromarray(pixels).save(root / part / f"scene-{index}{kind}")
    return dataset_from_folders(root / "images", root / "labels", CLASSES)


def counted(dataset, by=1):
    metrics = SegmentationMetrics(3)
    for sample in dataset:
        metrics.update(Shifted(by)(sample), sample.gt)
    return metrics.to_dict()


class TestReplacedFiles:
    """A run that is resumed has the figures of the files that are there now."""

    def resume(self, dataset, out, diary, told):
        with pytest.warns(lpprop.InputWarning, match=told) if told else contextlib.nullcontext():
            report = evaluate(dataset, {"one": Shifted(1, diary)}, out)
        assert counts(report, "one") == counted(dataset)
        assert counts(Report.load(out), "one") == counted(dataset)
        return [name for name, *_ in read(diary)]

    @pytest.mark.parametrize("part", ["images", "labels"])
    def test_a_replaced_file_is_measured_again(self, tmp_path, out, diary, part):
        dataset = a_folder(tmp_path)
        evaluate(dataset, {"one": Shifted(1)}, out)
        path = tmp_path / part / "scene-1.png"
        Image.fromarray(np.asarray(Image.open(path))[::-1]).save(path)
        told = "1 of 2 samples have another image or other labels .*, the first 'scene-1'"
        assert self.resume(dataset, out, diary, told) == ["scene-1"]
        assert self.resume(dataset, out, diary, None) == ["scene-1"]

    def test_the_same_size_and_time(self, tmp_path, out, diary):
        """Bitmaps of one size, with the time of the file that they replace."""
        dataset = a_folder(tmp_path, suffix=".bmp")
        evaluate(dataset, {"one": Shifted(1)}, out)
        path = tmp_path / "images" / "scene-0.bmp"
        state = path.stat()
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert path.stat().st_size == state.st_size
        assert self.resume(dataset, out, diary, "1 of 2") == ["scene-0"]

    def test_another_folder(self, tmp_path, out, diary):
        evaluate(a_folder(tmp_path / "first"), {"one": Shifted(1)}, out)
        again = a_folder(tmp_path / "second", draw=1)
        assert self.resume(again, out, diary, "2 of 2") == ["scene-0", "scene-1"]

    def test_a_copy_of_the_folder_is_the_same(self, tmp_path, out, diary):
        evaluate(a_folder(tmp_path / "first"), {"one": Shifted(1)}, out)
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        for file in (tmp_path / "second").rglob("*.png"):
            os.utime(file, (1, 1))
        copy = dataset_from_folders(
            tmp_path / "second" / "images", tmp_path / "second" / "labels", CLASSES
        )
        assert self.resume(copy, out, diary, None) == []

    def test_files_that_did_not_change_are_not_read(self, tmp_path, out, monkeypatch):
        dataset = a_folder(tmp_path)
        evaluate(dataset, {"one": Shifted(1)}, out)
        records = [json.loads(line) for line in (out / "one.jsonl").read_text().splitlines()]
        monkeypatch.setattr(Path, "open", lambda path, *args: pytest.fail(f"opened {path}"))
        assert all(is_unchanged(dataset[one["index"]], one["files"]) for one in records)

    def test_earlier_predictors_lose_the_replaced_image_too(self, tmp_path, out):
        dataset = a_folder(tmp_path)
        evaluate(dataset, {"one": Shifted(1)}, out)
        path = tmp_path / "labels" / "scene-1.png"
        Image.fromarray(np.zeros((12, 16), np.uint8)).save(path)
        with pytest.warns(lpprop.InputWarning, match="1 of 2"):
            evaluate(dataset, {"two": Shifted(2)}, out)
        report = Report.load(out)
        assert counts(report, "one") == counted(dataset[:1])
        assert "| one |" in report.table()
        assert "| 1 of 2 |" in (out / "results.md").read_text()

    def test_samples_without_files(self, out, diary):
        class Changed(Scenes):
            def __getitem__(self, index):
                sample = super().__getitem__(index)
                if index == 2:
                    sample.gt[10] = 0
                if index == 4:
                    sample.image = sample.image.transpose(Image.Transpose.ROTATE_180)
                if index == 5:
                    sample.gt = np.ma.array(sample.gt, mask=sample.gt == 1)
                return sample

        evaluate(Scenes(), {"one": Shifted(1)}, out)
        with pytest.warns(lpprop.InputWarning, match="3 of 6 samples"):
            report = evaluate(Changed(), {"one": Shifted(1, diary)}, out)
        assert [name for name, *_ in read(diary)] == ["scene-2", "scene-4", "scene-5"]
        expected = SegmentationMetrics(3)
        for index in range(6):
            sample = Changed()[index]
            expected.update(Shifted(1)(sample), sample.gt)
        assert counts(report, "one") == expected.to_dict()

    def test_a_file_that_is_gone_fails(self, tmp_path, out):
        dataset = a_folder(tmp_path)
        evaluate(dataset, {"one": Shifted(1)}, out)
        (tmp_path / "labels" / "scene-0.png").unlink()
        with (
            pytest.warns(lpprop.InputWarning, match="1 of 2"),
            pytest.raises(
                EvaluationError, match=r"scene-0 failed: .*scene-0.png, which does not exist"
            ),
        ):
            evaluate(dataset, {"one": Shifted(1)}, out)


def config_of(dataset):
    return {
        "dataset": {"name": "a", "samples": len(dataset), "class_names": CLASSES},
        "metrics": {"ignore_index": 255, "dilation_ratio": 0.02},
    }


def changed(line, **changes):
    """A record with other parts; those of its counts by their names."""
    record = json.loads(line)
    for name, value in changes.items():
        (record["metrics"] if name in record["metrics"] else record)[name] = value
    return json.dumps(record).encode() + b"\n"


class TestRecords:
    """What is not a whole record of this run never reaches a sum, and its image is done again."""

    BROKEN = {  # noqa: RUF012
        "a negative count": lambda line: changed(line, confusion=[[0, 0, -5]]),
        "a class out of range": lambda line: changed(line, confusion=[[0, 3, 5]]),
        "a fraction": lambda line: changed(line, confusion=[[0, 0, 0.5]]),
        "a huge number": lambda line: changed(line, confusion=[[0, 0, 10**400]]),
        "boundaries beyond the classes": lambda line: changed(line, boundary=[[0, 1, 10**6]]),
        "other classes": lambda line: changed(line, classes=4),
        "another ignore_index": lambda line: changed(line, ignore_index=254),
        "another width": lambda line: changed(line, dilation_ratio=0.5),
        "an index out of range": lambda line: changed(line, index=6),
        "an index below 0": lambda line: changed(line, index=-1),
        "an index that is true": lambda line: changed(line, index=True),
        "an index in words": lambda line: changed(line, index="2"),
        "seconds below 0": lambda line: changed(line, seconds=-1),
        "seconds that are NaN": lambda line: changed(line, seconds=float("nan")),
        "endless seconds": lambda line: changed(line, seconds=float("inf")),
        "an image without a name": lambda line: changed(line, image=None),
        "warnings that are a word": lambda line: changed(line, warnings="none"),
        "no files": lambda line: changed(line, files={}),
        "files of another kind": lambda line: changed(line, files={"image": [1, 2], "labels": []}),
        "counts that are a list": lambda line: changed(line, metrics=[]),
        "not JSON": lambda line: b"{index: 2}\n",
        "a number": lambda line: b"2\n",
        "nothing": lambda line: b"\n",
        "deep nesting": lambda line: b"[" * 100_000 + b"\n",
        "a number of many digits": lambda line: b"9" * 100_000 + b"\n",
        "another coding": lambda line: line.replace(b"scene", b"sc\xe8ne"),
        "another image's name": lambda line: line.replace(b"scene-2", b"scene-3"),
    }

    @pytest.mark.parametrize("name", BROKEN)
    def test_broken_lines(self, out, diary, name):
        expected = evaluate(Scenes(), {"one": Shifted(1)}, out)
        lines = (out / "one.jsonl").read_bytes().splitlines(keepends=True)
        lines[2] = self.BROKEN[name](lines[2])
        (out / "one.jsonl").write_bytes(b"".join(lines))
        with pytest.warns(lpprop.InputWarning, match=r"^(out|dataset): 1 "):
            report = evaluate(Scenes(), {"one": Shifted(1, diary)}, out)
        assert [image for image, *_ in read(diary)] == ["scene-2"]
        assert report.to_dict()["predictors"][0]["images"] == 6
        assert counts(report, "one") == counts(expected, "one")
        assert counts(Report.load(out), "one") == counts(expected, "one")  # and no warning

    @pytest.mark.parametrize("other", ["two", "three"])
    def test_the_file_of_another_run(self, tmp_path, out, diary, other):
        """Of another predictor, or of a predictor of this name with other settings."""
        evaluate(Scenes(), {"one": Shifted(1)}, out)
        evaluate(Scenes(), {"one" if other == "three" else other: Shifted(2)}, tmp_path / "other")
        (copied,) = (tmp_path / "other").glob("*.jsonl")
        shutil.copy(copied, out / "one.jsonl")
        with pytest.warns(lpprop.InputWarning, match=r"6 lines of .*one.jsonl .* of another run"):
            report = evaluate(Scenes(), {"one": Shifted(1, diary)}, out)
        assert len(read(diary)) == 6
        assert counts(report, "one") == counts(Report.load(out), "one") == pooled(1, range(6))

    def test_a_report_of_a_damaged_run_says_so(self, out):
        evaluate(Scenes(), {"one": Shifted(1)}, out)
        with (out / "one.jsonl").open("ab") as file:
            file.write(b"[]\n")
        with pytest.warns(lpprop.InputWarning, match=r"1 line of .*one.jsonl"):
            report = Report.load(out)
        assert counts(report, "one") == pooled(1, range(6))

    def test_a_full_disk(self, out, diary):
        """The last line does not fit: an error, and the next call does that image alone."""
        resource = pytest.importorskip("resource")
        evaluate(Scenes(), {"one": Shifted(1)}, out, limit=5)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(
            resource.RLIMIT_FSIZE, ((out / "one.jsonl").stat().st_size + 100, before[1])
        )
        try:
            with pytest.raises(OSError, match="File too large"):
                evaluate(Scenes(), {"one": Shifted(1)}, out)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        with pytest.warns(lpprop.InputWarning, match="1 line of"):
            report = evaluate(Scenes(), {"one": Shifted(1, diary)}, out)
        assert [name for name, *_ in read(diary)] == ["scene-5"]
        assert counts(report, "one") == counts(Report.load(out), "one") == pooled(1, range(6))

    def test_a_write_in_parts(self, out, monkeypatch):
        """An operating system may take a part of a line, and the rest later."""
        real = io.FileIO.write

        class Slow(io.FileIO):
            def write(self, content):
                return real(self, content[:7])

        opened = Path.open

        def open_slowly(path, mode="r", buffering=-1, **options):
            return Slow(path, "ab") if mode == "ab" else opened(path, mode, buffering, **options)

        monkeypatch.setattr(Path, "open", open_slowly)
        evaluate(Scenes(), {"one": Shifted(1)}, out)
        monkeypatch.undo()
        assert counts(Report.load(out), "one") == pooled(1, range(6))

    @pytest.mark.parametrize(
        "content",
        [
            "[]", "5", "{}", "[" * 100_000, "9" * 100_000, '{"predictors": 5, "dataset": {}}',
            json.dumps({**config_of([1]), "predictors": []}),
            json.dumps({**config_of([1]), "predictors": {}}),
            json.dumps({**config_of([1]), "predictors": {"one": 5}}),
            json.dumps({**config_of([1]), "predictors": {}, "metrics": {"ignore_index": "none"}}),
            json.dumps({**config_of([1]), "predictors": {}, "dataset": {"class_names": 3}}),
            json.dumps({**config_of([]), "predictors": {}}),
            b"\xff\xfe\x00",
        ],
    )  # fmt: skip
    def test_a_configuration_of_odd_content(self, out, content):
        out.mkdir()
        (out / "config.json").write_bytes(
            content if isinstance(content, bytes) else content.encode()
        )
        for call in (
            lambda: Report.load(out),
            lambda: evaluate(Scenes(), {"one": Shifted(1)}, out),
        ):
            with pytest.raises(lpprop.InputError, match=r"^out: .*damaged"):
                call()


class Warns(Shifted):
    """Warns of some images, with a number and the image's name in the message."""

    def __init__(self, by, of=(), **options):
        super().__init__(by, **options)
        self.of = of

    def __call__(self, sample):
        if sample.name in self.of:
            warn("odd", f"feats: {sample.name} has {len(sample.name) + self.by} odd patches")
        return super().__call__(sample)


class TestWarnings:
    @pytest.mark.parametrize("processes", [1, 2])
    def test_they_stand_beside_the_row_and_are_said_once(self, out, processes):
        predictors = {"calm": Shifted(1), "odd": Warns(1, ("scene-1", "scene-4"))}
        with pytest.warns(lpprop.InputWarning) as said:
            report = evaluate(Scenes(), predictors, out, processes=processes)
        message = "odd, 2 images, the first scene-1: feats: scene-1 has 8 odd patches"
        assert [str(one.message) for one in said] == [message]
        assert said[0].filename == __file__
        assert report.warnings == [message]
        assert f"- {message}\n" in (out / "results.md").read_text()
        calm, odd = json.loads((out / "results.json").read_text())["predictors"]
        assert calm["warnings"] == []
        assert odd["warnings"] == [
            {"message": "feats: scene-1 has 8 odd patches", "images": 2, "first": "scene-1"}
        ]
        assert Report.load(out).warnings == [message]

    def test_those_of_all_predictors_are_one(self):
        class Turned(Scenes):
            def __getitem__(self, index):
                if index == 3:
                    warn("turned", "image: turned")
                return super().__getitem__(index)

        with pytest.warns(lpprop.InputWarning) as said:
            evaluate(Turned(), {"one": Shifted(1), "two": Shifted(2)})
        assert [str(one.message) for one in said] == ["scene-3: image: turned"]

    def test_a_start_that_is_shared_warns_each_method(self):
        def start(sample):
            warn("doubt", "logits: flat")
            return Start(torch.rand(1, 3, 4, 5))

        with pytest.warns(lpprop.InputWarning):
            report = evaluate(Scenes(2), refinements(start, ["kl", "bilinear"]))
        assert [one.images for name in report for one in report[name].warnings] == [2, 2]

    @pytest.mark.filterwarnings("error::lpprop.InputWarning")
    def test_as_errors_they_come_after_the_work(self, out):
        with pytest.raises(lpprop.InputWarning, match="odd patches"):
            evaluate(Scenes(), {"odd": Warns(1, ("scene-1",))}, out)
        assert counts(Report.load(out), "odd") == pooled(1, range(6))
        assert (out / "results.md").is_file()


class Drawn(list):
    """Label maps as a data set."""

    name = "drawn"

    def __init__(self, maps, classes):
        self.class_names = [f"class {number}" for number in range(classes)]
        super().__init__(
            SimpleNamespace(name=f"{n}", image=Image.new("RGB", (8, 6)), gt=gt)
            for n, gt in enumerate(maps)
        )


def stripes(*labels):
    return np.repeat([list(labels)], 6, axis=0)


class TestLabelDoubts:
    def said(self, maps, classes, predict=None, **options):
        predict = predict or (lambda sample: np.zeros_like(sample.gt))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            report = evaluate(Drawn(maps, classes), {"one": predict}, **options)
        assert report.warnings == [str(one.message) for one in caught]
        assert all(one.category is lpprop.InputWarning for one in caught)
        return report.warnings, report

    def test_masks_of_0_and_255(self):
        for options in ({}, {"limit": 1}):
            (said,), report = self.said([stripes(0, 0, 0, 255)] * 2, 2, **options)
            assert "class 0, 'class 0', and 25.0 % do not count" in said
            assert "masks of 0 and 255" in said
            assert report.ignored_pixels == 6 * report.images
            assert report.class_pixels.tolist() == [18 * report.images, 0]

    def test_nothing_counts(self):
        (said,), report = self.said([stripes(255, 255)], 2)
        assert said.startswith("labels: no pixel counts")
        assert report.ignored_line() == "0.0 % of 12 pixels count; the others are ignored."

    @pytest.mark.parametrize(
        ("labels", "part"),
        [
            ((1, 2, 3), "'class 0' (0). "),
            ((1, 2, 3), "count from 1, subtract 1"),
            ((0, 1, 2), "one too low, add 1"),
            ((0, 3), "'class 1' (1), 'class 2' (2). "),
        ],
    )
    def test_classes_without_a_pixel(self, labels, part):
        (said,), report = self.said([stripes(*labels)] * 2, 4)
        assert part in said
        assert "| class 1 | 12 |" in report.class_table() or 1 not in labels
        assert self.said([stripes(*labels)] * 2, 4, limit=1)[0] == []  # of a part, they may lack

    def test_one_class(self):
        (said,), _ = self.said([stripes(0, 0)], 1)
        assert said.startswith("classes: only one, 'class 0', which every pixel gets")

    def test_labels_shifted_by_one(self):
        maps = [stripes(*range(8))] * 2
        for step in (-1, 1):
            said, _ = self.said(maps, 8, lambda sample, step=step: np.clip(sample.gt + step, 0, 7))
            assert len(said) == 1
            assert "shifted by one" in said[0]

    def test_sane_labels(self):
        draw = np.random.default_rng(0)
        for classes in (2, 3, 8, 30):
            maps = [draw.integers(0, classes, (20, 20)) for _ in range(3)]
            maps[0].flat[:classes] = range(classes)
            maps[1][:3] = 255
            for predict in (
                lambda sample: np.where(sample.gt == 255, 0, sample.gt),
                lambda sample: np.zeros_like(sample.gt),
                lambda sample, n=classes: np.full_like(sample.gt, n - 1),
                lambda sample, n=classes: draw.integers(0, n, sample.gt.shape),
            ):
                assert self.said(maps, classes, predict)[0] == []

    def test_pixels_of_each_class_are_written(self, out):
        _, report = self.said([stripes(0, 1, 1, 255), stripes(0, 0, 0, 1)], 2, out=out)
        results = json.loads((out / "results.json").read_text())
        assert results["class_pixels"] == report.class_pixels.tolist() == [24, 18]
        assert results["ignored_pixels"] == report.ignored_pixels == 6
        text = (out / "results.md").read_text()
        assert "| class 0 | 24 |" in text
        assert "87.5 % of 48 pixels count" in text


class TestOddArguments:
    @pytest.mark.parametrize(
        "changes",
        [
            {"class_names": None}, {"class_names": "abc"}, {"class_names": {"a", "b", "c"}},
            {"class_names": {"a": 1}}, {"class_names": []}, {"class_names": [1, 2, 3]},
            {"class_names": (name for name in CLASSES)}, {"class_names": np.array("a")},
            {"name": 5}, {"count": 0},
        ],
        ids=lambda changes: next(iter(changes)),
    )  # fmt: skip
    def test_data_sets(self, changes):
        dataset = Scenes()
        vars(dataset).update(changes)
        with pytest.raises(lpprop.InputError, match=r"^dataset: got Scenes"):
            evaluate(dataset, {"one": Shifted(1)})

    @pytest.mark.parametrize("dataset", [None, 5, ["a.png"], {"a": 1}, "folder"])
    def test_what_is_no_data_set(self, dataset):
        with pytest.raises(lpprop.InputError, match=r"^dataset: got "):
            evaluate(dataset, {"one": Shifted(1)})

    @pytest.mark.parametrize(
        "options",
        [
            {"predictors": None}, {"predictors": [Shifted(1)]}, {"predictors": {"one": 5}},
            {"predictors": {1: Shifted(1)}}, {"out": 5}, {"out": b"run"}, {"out": "a\0b"},
            {"out": __file__}, {"processes": 1.5}, {"limit": True}, {"limit": "all"},
            {"on_error": None}, {"on_error": np.array(["stop"])}, {"progress": "yes"},
            {"ignore_index": 1}, {"ignore_index": None}, {"dilation_ratio": "wide"},
        ],
        ids=lambda changes: next(iter(changes)),
    )  # fmt: skip
    def test_arguments(self, options):
        with pytest.raises(lpprop.InputError, match=f"^{next(iter(options))}: "):
            evaluate(**{"dataset": Scenes(), "predictors": {"one": Shifted(1)}, **options})

    def test_numbers_of_numpy(self, out):
        """They work, are written as numbers, and a run with Python's own is the same run."""
        small = {"limit": np.int8(2), "processes": np.uint8(1), "dilation_ratio": np.float32(0.25)}
        report = evaluate(
            Scenes(),
            {"one": Shifted(1)},
            out,
            ignore_index=np.int64(255),
            progress=np.False_,
            **small,
        )
        again = evaluate(Scenes(), {"one": Shifted(1)}, out, limit=2, dilation_ratio=0.25)
        assert report.to_dict() == again.to_dict()

    def test_names_that_are_not_utf_8(self, out):
        bad = "caf\udce9 \x1b[2J"

        class Named(Scenes):
            names = [f"{bad}{index}" for index in range(6)]  # noqa: RUF012

            def __getitem__(self, index):
                sample = super().__getitem__(index)
                sample.name = f"{bad}{index}"
                return sample

        predictors = {"one": Shifted(1), bad: Warns(2, (f"{bad}1",), fails=(f"{bad}2",))}
        with pytest.warns(UserWarning, match="odd patches|failed"):
            report = evaluate(Named(), predictors, out, on_error="skip")
        again = Report.load(out)
        for name in predictors:
            assert counts(again, name) == counts(report, name)
        text = (out / "results.md").read_text(encoding="utf-8")
        assert r"caf\udce9 \x1b[2J2" in text
        assert "\x1b" not in text
        json.loads((out / "results.json").read_text())
        OracleStart(3, share=0.5)(Named()[0])

    def test_masked_results_are_refused(self):
        for kind in (np.zeros((32, 40), int), np.zeros((3, 32, 40))):
            result = np.ma.array(kind, mask=kind == 0)
            with pytest.raises(EvaluationError, match=r"predictor: got an array with .* masked"):
                evaluate(Scenes(), {"one": lambda sample, result=result: result})

    @pytest.mark.parametrize("methods", ["lposs", {"lposs", "kl"}, None, 5, [], {}])
    def test_refinements(self, methods):
        with pytest.raises(lpprop.InputError, match=r"^methods: "):
            refinements(lambda sample: None, methods)
        with pytest.raises(lpprop.InputError, match=r"^start: got NoneType"):
            refinements(None, ["lposs"])

    @pytest.mark.parametrize("folder", [None, 5, b"run"])
    def test_folders(self, folder):
        with pytest.raises(lpprop.InputError, match=r"^folder: "):
            Report.load(folder)


class TestProgress:
    def test_lines_without_a_terminal(self, capsys, monkeypatch):
        now = [0.0]
        clock = SimpleNamespace(monotonic=lambda: now[0])
        monkeypatch.setattr("lpprop._core.progress.time", clock)

        def slow(sample):
            now[0] += 25
            return np.where(sample.gt == 255, 0, sample.gt)

        evaluate(Scenes(), {"one": slow})
        assert capsys.readouterr().err.splitlines() == [
            "lpprop: 3 of 6 images in 1 min, about 1 min left",
            "lpprop: 6 of 6 images in 2 min, about 0 min left",
        ]
        evaluate(Scenes(), {"one": slow}, progress=False)
        assert capsys.readouterr().err == ""

    def test_the_pause_is_a_minute(self):
        assert LINE_SECONDS == 60


class TestProcesses:
    def test_the_same_counts(self, out, diary):
        predictors = {"one": Shifted(1, diary, seconds=0.05), "two": Shifted(2)}
        report = evaluate(Scenes(), predictors, out, processes=2)
        alone = evaluate(Scenes(), {"one": Shifted(1), "two": Shifted(2)})
        for name in predictors:
            assert counts(report, name) == counts(alone, name) == counts(Report.load(out), name)
            assert [image.index for image in report[name].images] == list(range(6))
        workers = {(process, threads) for _, process, threads in read(diary)}
        assert len(workers) == 2
        assert {threads for _, threads in workers} == {"1"}
        assert str(os.getpid()) not in {process for process, _ in workers}

    def test_failures_name_the_image(self, out):
        with pytest.raises(EvaluationError, match="scene-1: 'one' failed: ValueError: too hard"):
            evaluate(Scenes(), {"one": Shifted(1, fails=["scene-1"])}, out, processes=2)

    def test_a_process_that_dies(self, out):
        with pytest.raises(EvaluationError, match=r"scene-4: one failed: .* exit code 7"):
            evaluate(Scenes(), {"one": Shifted(1, dies=["scene-4"])}, out, processes=2)
        assert len((out / "one.jsonl").read_text().splitlines()) >= 3
        report = evaluate(Scenes(), {"one": Shifted(1)}, out)
        assert counts(report, "one") == pooled(1, range(6))

    @pytest.mark.parametrize("predictor", [lambda sample: sample.gt, Unloadable()])
    def test_predictors_that_do_not_pickle_are_refused(self, predictor):
        with pytest.raises(lpprop.InputError, match=r"^predictors: .*cannot be sent"):
            evaluate(Scenes(), {"one": predictor}, processes=2)

    @pytest.mark.parametrize("processes", [1, 2])
    def test_killed_and_resumed(self, out, diary, processes):
        """SIGKILL in the middle: nothing is lost, nothing is done twice, no process is left."""
        script = (
            "from pathlib import Path\n"
            "from test_runner import Scenes, Shifted, evaluate\n"
            "if __name__ == '__main__':\n"
            f"    predictors = {{'one': Shifted(1, Path({str(diary)!r}), seconds=0.1)}}\n"
            f"    evaluate(Scenes(40), predictors, Path({str(out)!r}), processes={processes})\n"
        )
        path = diary.with_name("script.py")
        path.write_text(script)
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        run = subprocess.Popen([sys.executable, path], env=os.environ | {"PYTHONPATH": paths})
        while len(read(diary)) < 5 and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(signal.SIGKILL)
        run.wait()
        done = len((out / "one.jsonl").read_bytes().split(b"\n")) - 1
        assert 3 <= done < 40
        for process in {int(process) for _, process, _ in read(diary)}:
            assert ended(process)
        begun = len(read(diary))
        assert done <= begun <= done + 2 * processes
        report = evaluate(Scenes(40), {"one": Shifted(1, diary)}, out)
        assert counts(report, "one") == pooled(1, range(40))
        assert len(read(diary)) == begun + 40 - done


def ended(process):
    """Wait for a process to be gone, or to wait for a parent that is gone (Z)."""
    for _ in range(100):
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


class TestFailures:
    def test_stop(self, out):
        with pytest.raises(EvaluationError, match="scene-2: 'one' failed: ValueError: too hard"):
            evaluate(Scenes(), {"one": Shifted(1, fails=["scene-2"])}, out)
        assert counts(Report.load(out), "one") == pooled(1, range(2))

    def test_skip_and_try_again(self, out, diary):
        predictors = {"one": Shifted(1, fails=["scene-2"]), "two": Shifted(2)}
        with pytest.warns(UserWarning, match="scene-2: 'one' failed"):
            report = evaluate(Scenes(), predictors, out, on_error="skip")
        assert counts(report, "one") == pooled(1, [0, 1, 3, 4, 5])
        assert counts(report, "two") == pooled(2, range(6))
        assert report["one"].failures == {"scene-2": "ValueError: too hard"}
        assert [row.images for row in report.rows()] == [5, 6]
        written = (out / "results.md").read_text()
        assert "5 of 6" in written
        assert "scene-2: one: ValueError: too hard" in written
        report = evaluate(Scenes(), {"one": Shifted(1, diary)}, out)
        assert [name for name, *_ in read(diary)] == ["scene-2"]
        assert counts(report, "one") == pooled(1, range(6))

    def test_a_sample_that_cannot_be_read(self):
        class Broken(Scenes):
            def __getitem__(self, index):
                if index == 1:
                    raise OSError("no such file")
                return super().__getitem__(index)

        with pytest.raises(EvaluationError, match="image 1 failed: OSError: no such file"):
            evaluate(Broken(), {"one": Shifted(1)})
        with pytest.warns(UserWarning, match="image 1 failed") as said:  # once for all predictors
            report = evaluate(Broken(), {"one": Shifted(1), "two": Shifted(2)}, on_error="skip")
        assert len(said) == 1
        assert "- image 1: one, two: OSError: no such file" in report.to_markdown()

    @pytest.mark.parametrize(
        ("result", "message"),
        [
            (np.zeros((1, 3, 32, 40)), "scores"),
            (np.zeros((2, 32, 40)), r"scores \(3, H, W\)"),
            (np.full((3, 32, 40), np.nan), "NaN"),
            (np.zeros((32, 41), dtype=int), "shape"),
            (np.full((32, 40), 3), "the label 3"),
        ],
    )
    def test_results_that_cannot_be_counted(self, result, message):
        with pytest.raises(EvaluationError, match=f"^scene-0: 'one' failed.*{message}"):
            evaluate(Scenes(), {"one": lambda sample: result})

    @pytest.mark.parametrize(
        "options", [{"processes": 0}, {"limit": 0}, {"on_error": "ignore"}, {"predictors": {}}]
    )
    def test_arguments(self, options):
        with pytest.raises(lpprop.InputError, match=f"^{next(iter(options))}: "):
            evaluate(**{"dataset": Scenes(), "predictors": {"one": Shifted(1)}, **options})


class TestReport:
    @pytest.fixture
    def report(self, out):
        return evaluate(Scenes(), {"one": Shifted(1), "two": Shifted(2)}, out)

    def test_loads_back(self, report, out):
        again = Report.load(out)
        assert again.to_markdown() == report.to_markdown() == (out / "results.md").read_text()
        assert again.to_dict() == report.to_dict()
        assert json.loads((out / "results.json").read_text()) == report.to_dict()

    def test_markdown(self, report):
        text = report.to_markdown()
        metrics = report["one"].metrics
        row = next(line for line in text.splitlines() if line.startswith("| one "))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:5] == [
            f"{100 * value:.2f}"
            for value in (
                metrics.miou,
                metrics.mean_boundary_iou,
                metrics.pixel_accuracy,
                metrics.mean_class_accuracy,
            )
        ]
        assert cells[6] == "6"
        sky = next(line for line in text.splitlines() if line.startswith("| sky "))
        assert f"{100 * metrics.iou[0]:.2f}" in sky
        for part in ("# scenes: 6 of 6 images", f'"torch": "{torch.__version__}"', '"by": 2'):
            assert part in text

    def test_json_is_strict(self, report, out):
        json.loads(
            (out / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name)
        )

    def test_a_class_that_does_not_occur(self):
        class Wider(Scenes):
            class_names = [*CLASSES, "boat"]  # noqa: RUF012

        with pytest.warns(lpprop.InputWarning, match=r"no pixel is of class 'boat' \(3\)"):
            report = evaluate(Wider(), {"one": Shifted(1)})
        assert "| boat | 0 | 0 | – | – |" in report.class_table()
        assert report.to_dict()["predictors"][0]["iou"][3] is None

    def test_unknown_names_are_refused(self, report, tmp_path):
        with pytest.raises(lpprop.InputError, match="'one', 'two'"):
            report["three"]
        with pytest.raises(lpprop.InputError, match="without a run"):
            Report.load(tmp_path / "nothing")


CATS = ["cat", "sofa", "bus"]


# Of a picture this small, the classifier's shares hardly differ.
@pytest.mark.filterwarnings("ignore:.*scores that differ by at most:UserWarning")
class TestSharedModels:
    METHODS = ("bilinear", "lposs", "lposs+", "max_velocity", "kl")

    @pytest.fixture
    def offline(self):
        pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
        return dataclasses.replace(RECIPES["offline"], shorter_side=64)

    def predictors(self, recipe, methods=METHODS):
        options = {"k": 5} if any("lposs" in name for name in methods) else {}
        return recipe_predictors(method_recipes(recipe, methods, **options), CATS)

    @pytest.mark.parametrize(
        ("windows", "affinity"),
        [(None, None), ((32, 16), None), (None, Model("EfficientNetLite0"))],
    )
    def test_scores_are_those_of_separate_runs_to_the_bit(self, offline, windows, affinity):
        recipe = dataclasses.replace(offline, windows=windows, affinity=affinity)
        methods = self.METHODS[: 4 if windows else 5]  # "kl" takes whole images alone
        predictors = self.predictors(recipe, methods)
        alone = {name: self.predictors(recipe, [name])[name].segmenter for name in methods}
        for index in (0, 1, 0):
            sample = Scenes()[index]
            for name, predictor in predictors.items():
                alone[name].call_model = lambda model, *inputs: model(*inputs)
                expected = alone[name](sample.image, CATS).scores[0]
                assert torch.equal(predictor(sample), expected)

    def test_each_model_runs_once_per_image(self, offline):
        predictors = self.predictors(offline)
        segmenter = predictors["bilinear"].segmenter
        calls = []
        see = segmenter.backbone._see
        segmenter.backbone._see = lambda *inputs: calls.append(inputs) or see(*inputs)
        report = evaluate(Scenes(), predictors)
        assert len(calls) == 6
        calls.clear()
        for name in self.METHODS:
            alone = evaluate(Scenes(), {name: SegmenterPredictor(
                predictors[name].segmenter, CATS)})  # fmt: skip
            assert counts(alone, name) == counts(report, name)
        assert len(calls) == 6 * len(self.METHODS)

    def test_other_inputs_are_not_taken_for_the_same(self, offline):
        """Other windows, another size: of one image, other inputs of the model."""
        small = dataclasses.replace(offline, shorter_side=48)
        first, second = self.predictors(offline, ["kl"]), self.predictors(small, ["kl"])
        share_models([first["kl"], second["kl"]])
        sample = Scenes()[0]
        for shared, recipe in ((first, offline), (second, small), (first, offline)):
            alone = recipe.with_method("kl").build()
            expected = alone(sample.image, CATS).scores[0]
            assert torch.equal(shared["kl"](sample), expected)

    def test_nothing_is_remembered_outside_a_run(self, offline):
        predictor = self.predictors(offline, ["bilinear"])["bilinear"]
        predictor(Scenes()[0])
        kept = len(predictor.calls._calls)
        predictor.segmenter(Scenes()[1].image, ["cat", "sofa"])
        assert len(predictor.calls._calls) == kept == 1
        assert pickle.loads(pickle.dumps(predictor.calls))._calls == []

    def test_each_time_contains_the_models(self, offline, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(
            "lpprop._core.measure.time", SimpleNamespace(perf_counter=lambda: now[0])
        )
        predictors = self.predictors(offline, ["bilinear", "kl"])
        backbone = predictors["kl"].segmenter.backbone
        see = backbone._see

        def slow(*inputs):
            now[0] += 7
            return see(*inputs)

        backbone._see = slow
        report = evaluate(Scenes(2), predictors)
        assert [image.seconds for name in report for image in report[name].images] == [7] * 4

    def test_warnings_of_the_model_are_of_each_method(self, offline):
        predictors = self.predictors(offline, ["bilinear", "kl"])
        backbone = predictors["kl"].segmenter.backbone
        see = backbone._see

        def doubtful(*inputs):
            warn("pixels", "image: dark")
            return see(*inputs)

        backbone._see = doubtful
        with pytest.warns(lpprop.InputWarning, match="^3 images, the first scene-0: image: dark"):
            report = evaluate(Scenes(3), predictors)
        said = [one for name in report for one in report[name].warnings]
        assert [one.images for one in said if "dark" in one.message] == [3, 3]

    def test_whatever_a_recipe_says_of_a_model_is_recorded(self, offline, out):
        """Whatever a recipe says about its models, also what this test alone knows."""

        @dataclasses.dataclass(frozen=True)
        class Tagged(Model):
            tag: str = "main"

        model = Tagged(offline.backbone.kind, tag="0123abc")
        recipe = dataclasses.replace(offline, backbone=model)
        predictors = self.predictors(recipe, ["kl"])
        evaluate(Scenes(1), predictors, out, limit=1)
        results = json.loads((out / "results.json").read_text())
        described = results["config"]["predictors"]["kl"]["recipe"]["backbone"]
        assert described["tag"] == "0123abc"
        assert '"tag": "0123abc"' in (out / "results.md").read_text()

    def test_prompts_are_checked_first(self, offline):
        segmenter = offline.build()
        for prompts in ("cat", {"cat", "sofa"}, None, [1]):
            with pytest.raises(lpprop.InputError, match=r"^classes"):
                SegmenterPredictor(segmenter, prompts)


class TestPredictors:
    def test_a_start_is_made_once_for_all_methods(self):
        made = []

        def start(sample):
            made.append(sample.name)
            generator = torch.Generator().manual_seed(len(made))
            return Start(
                torch.rand(1, 3, 4, 5, generator=generator),
                feats=torch.rand(1, 8, 4, 5, generator=generator),
            )

        def flat(logits, *, feats, image, attention):
            return lpprop.bilinear_upsample(logits, image.shape[-2:])

        chain = lpprop.presets.lposs(k=5, patch_size=8)
        predictors = refinements(start, {"patches": chain, "flat": flat, "kl": "kl"})
        report = evaluate(Scenes(), predictors)
        assert made == [f"scene-{i}" for i in range(6)]
        made.clear()
        metrics = SegmentationMetrics(3)
        for index in range(6):
            sample = Scenes()[index]
            made_now = start(sample)
            feats = made_now.inputs["feats"]
            scores = lpprop.refine(made_now.logits, feats, sample.image, method=chain)
            metrics.update(scores.argmax(1)[0], sample.gt)
        assert counts(report, "patches") == metrics.to_dict()

    def test_a_start_with_the_models_own_image(self):
        small = torch.rand(1, 3, 16, 20)
        start = Start(torch.rand(1, 3, 4, 5), image=small)
        (predictor,) = refinements(lambda sample: start, ["kl"]).values()
        expected = lpprop.refine(start.logits, image=small, method="kl", size=(32, 40))[0]
        assert torch.equal(predictor(Scenes()[0]), expected)

    def test_a_method_gets_the_inputs_that_it_takes(self):
        """Pixel features go to the pixel step alone; an input that no method takes is refused."""
        draw = torch.Generator().manual_seed(0)
        logits, feats = (torch.rand(1, n, 4, 5, generator=draw) for n in (3, 8))
        depth = torch.rand(1, 1, 32, 40, generator=draw)
        chains = {
            "pixels": lpprop.presets.lposs_plus(k=5, patch_size=8, r=5),
            "patches": lpprop.presets.lposs(k=5, patch_size=8),
        }

        def start(sample):
            return Start(logits, feats, pixel_feats=depth)

        sample = Scenes()[0]
        got = {name: one(sample) for name, one in refinements(start, chains).items()}
        for name, given in (("pixels", {"pixel_feats": depth}), ("patches", {})):
            expected = lpprop.refine(logits, feats, sample.image, method=chains[name], **given)
            assert torch.equal(got[name], expected[0])
        assert not torch.equal(
            got["pixels"], lpprop.refine(logits, feats, sample.image, method=chains["pixels"])[0]
        )
        for name, given in (("pixel_feats", chains["patches"]), ("depth", chains["pixels"])):
            (alone,) = refinements(
                lambda sample, name=name: Start(logits, feats, **{name: depth}), {"a": given}
            ).values()
            with pytest.raises(lpprop.InputError, match=f"^{name}: "):
                alone(sample)

    def test_windows_go_to_every_method(self):
        """A method that does not take them is refused, though others do: it would score a crop."""
        windows = lpprop.SlidingWindows((32, 40), 16, 8)
        start = Start(torch.rand(len(windows), 3, 2, 2), windows=windows)
        predictors = refinements(lambda sample: start, ["bilinear", "kl"])
        assert predictors["bilinear"](Scenes()[0]).shape == (3, 32, 40)
        with pytest.raises(lpprop.InputError, match=r"^windows: "):
            predictors["kl"](Scenes()[0])

    def test_predictors_are_told_apart(self):
        def start(sample):
            return Start(torch.rand(1, 3, 4, 5))

        configured = [lpprop.presets.lposs(k=k) for k in (5, 5, 6)]
        five, again, six = (
            describe(refinements(start, {"one": method})["one"]) for method in configured
        )
        assert five == again != six
        assert " at 0x" not in json.dumps(five)

    def test_an_unknown_method_is_refused_early(self):
        with pytest.raises(lpprop.InputError, match="Did you mean 'lposs"):
            refinements(lambda sample: None, ["lposss"])

    def test_a_segmenter_with_its_weights(self):
        pytest.importorskip("efficientnet_lite_pytorch")
        from lpprop.backbones import EfficientNetLite0
        from lpprop.models.segmenter import Segmenter

        segmenter = Segmenter(EfficientNetLite0(), method="lposs", shorter_side=64)
        predictor = SegmenterPredictor(segmenter, CATS)
        sample = Scenes()[0]
        expected = segmenter(sample.image, CATS).scores[0]
        assert torch.equal(predictor(sample), expected)
        described = predictor.fingerprint()
        assert described["backbone"] == described["affinity"]
        assert described["backbone"]["weights"] == hash_weights(segmenter.backbone)
        assert "recipe" not in described

    def test_settings_tell_backbones_apart(self):
        """The weights are the same, and what they make of an image is not."""
        pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
        from lpprop.backbones import EfficientNetLite0
        from lpprop.models.segmenter import Segmenter

        def described(**changed):
            backbone = EfficientNetLite0()
            vars(backbone).update(changed)
            segmenter = Segmenter(backbone, method="lposs")
            return SegmenterPredictor(segmenter, ["cat", "sofa"]).fingerprint()

        assert described() == described()
        assert described(max_bytes=1) == described()
        assert described(templates=("a {}.",)) != described(templates=("the {}.",))
        assert described(_std=(1.0, 1.0, 1.0)) != described()
        json.dumps(described())

    def test_hashes_tell_weights_apart(self):
        first, second = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
        assert hash_weights(first) != hash_weights(second)
        second.load_state_dict(first.state_dict())
        assert hash_weights(first) == hash_weights(second)
        assert len(hash_weights(first.to(torch.bfloat16))) == 64
