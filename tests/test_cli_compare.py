"""`lpprop compare`: its files are the library's, and mistakes are one line before any work."""

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lpprop import cli, comparison
from lpprop.cli import main
from lpprop.comparison import compare

CLASSES, SIZE = 4, (48, 64)
SUFFIXES = (".csv", ".md", ".png")


@pytest.fixture
def item(tmp_path):
    """Write an image with its arrays and labels."""
    random = np.random.default_rng(0)
    arrays = {
        "image": random.integers(0, 256, (*SIZE, 3), np.uint8),
        "logits": random.normal(size=(CLASSES, 3, 4)).astype(np.float32),
        "feats": random.normal(size=(8, 3, 4)).astype(np.float32),
        "gt": random.integers(0, CLASSES, SIZE).astype(np.uint8),
    }
    arrays["gt"][:5] = 9
    Image.fromarray(arrays["image"]).save(tmp_path / "a.b.png")
    Image.fromarray(arrays["gt"]).save(tmp_path / "gt.png")
    np.save(tmp_path / "logits.npy", arrays["logits"])
    np.save(tmp_path / "feats.npy", arrays["feats"])
    return arrays


def arguments(folder, *more, methods=("bilinear", "lposs")):
    return [
        "compare", str(folder / "a.b.png"), "--logits", str(folder / "logits.npy"),
        "--feats", str(folder / "feats.npy"), "--out", str(folder / "out"),
        *(["--methods", *methods] if methods else []), *map(str, more),
    ]  # fmt: skip


def results(folder):
    return [folder / "out" / f"a.b_compare{suffix}" for suffix in SUFFIXES]


def test_files_equal_the_library(tmp_path, item, capsys):
    names = ["sky", "road", "<b>", "c|d"]
    more = ["--gt", tmp_path / "gt.png", "--ignore-index", 9, "--palette", "voc", "--classes"]
    assert main(arguments(tmp_path, *more, *names)) == 0
    streams = capsys.readouterr()
    assert sorted((tmp_path / "out").iterdir()) == results(tmp_path)
    expected = compare(
        item["logits"], item["feats"], item["image"], gt=item["gt"], ignore_index=9,
        methods=["bilinear", "lposs"], class_names=names, palette="voc",
    )  # fmt: skip
    csv_file, markdown_file, figure_file = results(tmp_path)

    lines = list(csv.DictReader(io.StringIO(csv_file.read_text())))
    assert [line["method"] for line in lines] == ["bilinear", "lposs"]
    for line, row in zip(lines, expected.rows, strict=True):
        for field in ("changed", "miou", "boundary_iou"):
            assert float(line[field]) == pytest.approx(getattr(row, field), rel=1e-5)
    headings = markdown_file.read_text().splitlines()[0]
    assert headings.startswith("| method | time (ms) |")
    with Image.open(figure_file) as figure:
        drawn = expected.figure(errors=True)
        assert figure.size == drawn.size
        # Only the times in the subtitles may differ.
        differ = (np.asarray(figure) != np.asarray(drawn)).any(-1)
        assert differ.mean() < 0.01
    table, last = streams.out.rstrip("\n").rsplit("\n", 1)
    assert [line.split()[0] for line in table.splitlines()] == ["method", "bilinear", "lposs"]
    assert last == f"figure and tables: {tmp_path / 'out' / 'a.b_compare'}.png, .md, .csv"
    assert streams.err == ""


def test_the_default_methods_and_a_size(tmp_path, item, capsys):
    attention = np.random.default_rng(1).random((2, 12, 12)).astype(np.float32)
    np.save(tmp_path / "attention.npy", attention)
    more = ["--attention", tmp_path / "attention.npy", "--size", 30, 40]
    assert main(arguments(tmp_path, *more, methods=())) == 0
    expected = compare(
        item["logits"], item["feats"], item["image"], attention=attention[None], size=(30, 40),
        repeats=1,
    )  # fmt: skip
    with results(tmp_path)[0].open() as file:
        lines = list(csv.DictReader(file))
    assert [line["method"] for line in lines] == [row.method for row in expected.rows]
    for line, row in zip(lines, expected.rows, strict=True):
        assert float(line["changed"]) == pytest.approx(row.changed, rel=1e-5)
    assert "mIoU" not in capsys.readouterr().out


def test_what_cannot_run_is_named(tmp_path, item, capsys):
    argv = arguments(tmp_path, methods=("bilinear", "lposs"))
    place = argv.index("--feats")
    assert main(argv[:place] + argv[place + 2 :]) == 0
    assert "lposs: skipped. feats: got None" in capsys.readouterr().out


def test_in_a_process(tmp_path, item):
    command = [sys.executable, "-m", "lpprop", *arguments(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted((tmp_path / "out").iterdir()) == results(tmp_path)


def test_a_new_run_replaces_the_old_one(tmp_path, item):
    (tmp_path / "out").mkdir()
    for path in results(tmp_path):
        path.write_bytes(b"old")
    assert main(arguments(tmp_path)) == 0
    assert all(path.read_bytes() != b"old" for path in results(tmp_path))


def test_interrupted_writes_leave_what_was_there(tmp_path, item, capsys, monkeypatch):
    assert main(arguments(tmp_path)) == 0
    before = {path: path.read_bytes() for path in results(tmp_path)}

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    assert main(arguments(tmp_path)) == 1
    assert "error: disk full" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def replaced(argv, name, *values):
    place = argv.index(name) + 1
    return [*argv[:place], *map(str, values), *argv[place + 1 :]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda argv, d: replaced(argv, "compare", d / "x.png"), "IMAGE: got"),
        (lambda argv, d: replaced(argv, "compare", d), "which is not a file"),
        (lambda argv, d: replaced(argv, "--logits", d / "x.npy"), "logits: got"),
        (lambda argv, d: replaced(argv, "--feats", d / "x.npy"), "feats: got"),
        (lambda argv, d: replaced(argv, "--out", d / "gt.png"), "--out: got"),
        (lambda argv, d: [*argv, "lpos"], "method: got 'lpos'"),
        (lambda argv, d: [*argv, "--gt", str(d / "x.png")], "--gt: got"),
        (lambda argv, d: [*argv, "--gt", str(d / "logits.npy")], "an undamaged PNG"),
        (lambda argv, d: [*argv, "--gt", str(d / "a.b.png")], "one label per pixel"),
        (lambda argv, d: [*argv, "--gt", str(d / "gt.png")], "gt: got the label 9"),
        (lambda argv, d: [*argv, "--classes", "a", "b"], "--classes: got 2 names"),
        (lambda argv, d: [*argv, "--palette", "vok"], "palette: got 'vok'"),
        (lambda argv, d: [*argv, "--device", "quantum"], "--device: got quantum"),
    ],
)
def test_mistakes_are_found_before_any_work(tmp_path, item, capsys, monkeypatch, change, message):
    monkeypatch.setattr(comparison.run, "measure", lambda *_: pytest.fail("work was done"))
    assert main(change(arguments(tmp_path), tmp_path)) == 1
    streams = capsys.readouterr()
    assert streams.err.startswith("lpprop: error: ")
    assert message in streams.err
    assert streams.err.count("\n") == 1
    assert streams.out == ""
    if (tmp_path / "out").exists():
        assert not list((tmp_path / "out").iterdir())


def test_help_and_usage(capsys):
    for argv, code in [(["compare", "--help"], 0), (["compare"], 2), (["--help"], 0)]:
        with pytest.raises(SystemExit) as stopped:
            cli.main(argv)
        assert stopped.value.code == code
    assert "set several methods side by side" in capsys.readouterr().out
