"""`lpprop compare`: its files are the library's, and mistakes are one line before any work."""

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lpprop import cli, comparison, presets
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
    firsts = [line.split()[0] for line in table.splitlines()]
    assert firsts == ["method", "bilinear", "lposs", "gt:", "[1]"]
    assert last == f"figure and tables: {tmp_path / 'out' / 'a.b_compare'}.png, .md, .csv"
    assert streams.err == ""


def test_the_default_methods_and_a_size(tmp_path, item, capsys):
    attention = np.random.default_rng(1).random((2, 12, 12)).astype(np.float32)
    attention /= attention.sum(-1, keepdims=True)
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
    assert "lposs: skipped. --feats: got None" in capsys.readouterr().out


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


# --------------------------------------------------------------------------- options of methods


def table_of(folder):
    with results(folder)[0].open(newline="") as file:
        return {line["method"]: line for line in csv.DictReader(file)}


def test_methods_with_options(tmp_path, item):
    methods = ("lposs:k=3,gamma=7", "lposs:k=3", "pamr:iterations=2,dilations=1,2", "bilinear")
    more = ["--option", "k=5", "--option", "alpha=.5"]
    assert main(arguments(tmp_path, *more, methods=methods)) == 0
    expected = {
        "lposs(k=3, gamma=7.0, alpha=0.5)": presets.lposs(k=3, gamma=7, alpha=0.5),
        "lposs(k=3, alpha=0.5)": presets.lposs(k=3, alpha=0.5),
        "pamr(iterations=2, dilations=(1, 2))": presets.pamr(iterations=2, dilations=(1, 2)),
        "bilinear": "bilinear",
    }
    twin = compare(item["logits"], item["feats"], item["image"], methods=expected, repeats=1)
    table = table_of(tmp_path)
    assert list(table) == list(expected)
    for row in twin.rows:
        assert float(table[row.method]["changed"]) == pytest.approx(row.changed, rel=1e-5)


def test_an_option_for_the_default_methods(tmp_path, item):
    assert main(arguments(tmp_path, "--option", "k=3", methods=())) == 0
    names = list(table_of(tmp_path))
    assert [name for name in names if "(" in name] == ["auto(k=3)", "lposs(k=3)", "lposs+(k=3)"]
    assert "bilinear" in names


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["--option", "kk=3"], 1, "--option: got kk, which none of these methods has, expected"),
        (["--option", "kk=3"], 1, "Did you mean k?"),
        (["--option", "r=3"], 1, "r, which none of these methods has"),
        (["--option", "k=0"], 1, "k: got 0, expected an integer >= 1"),
        (["--methods", "lposs:r=3"], 1, "r: got an option that lposs does not have"),
        (["--methods", "lposs:k=3", "lpos:k=3"], 1, "method: got 'lpos'"),
        (["--methods", "lposs:k"], 2, "expected NAME=VALUE, such as k=200, got 'k'"),
        (["--methods", "lposs:"], 2, "expected NAME=VALUE, such as k=200, got ''"),
        (["--methods", "lposs:k=3,,gamma=7"], 1, "k: got (3,), expected an integer"),
        (["--methods", "lposs:k=3,k=4"], 2, "k is given twice in 'lposs:k=3,k=4'"),
        (["--methods", "lposs:k=3,4"], 1, "k: got (3, 4), expected an integer >= 1"),
        (["--methods", ":k=3"], 1, "method: got ''"),
        (["--methods", "bilinear", "--option", "k=3"], 1, "expected none. Remove k."),
        (["--classes", "cat"], 1, "--classes: got only 'cat', expected two or more"),
    ],
)
def test_options_that_cannot_be_used(tmp_path, item, capsys, monkeypatch, more, code, message):
    monkeypatch.setattr(comparison.run, "measure", lambda *_: pytest.fail("work was done"))
    try:
        got = main(arguments(tmp_path, *more))
    except SystemExit as stopped:
        got = stopped.code
    assert got == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_package_skips_its_method_with_options_too(tmp_path, item, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    assert main(arguments(tmp_path, methods=("bilinear", "dense_crf:iterations=2"))) == 0
    assert "dense_crf: skipped. " in capsys.readouterr().out


# --------------------------------------------------------------------------- warnings


def test_each_warning_is_said_once_beside_its_rows(tmp_path, item):
    """The grid of 3 x 4 patches does not span an image of twice the size."""
    Image.fromarray(item["image"]).resize((128, 96)).save(tmp_path / "a.b.png")
    Image.fromarray(np.uint8(255 * np.eye(96, 128))).save(tmp_path / "mask.png")
    methods = ("bilinear", "lposs", "lposs+")
    argv = arguments(tmp_path, "--gt", tmp_path / "mask.png", methods=methods)
    done = subprocess.run(
        [sys.executable, "-m", "lpprop", *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("not 96 x 128: distances") == said.count("(0) alone") == 1
    lines = done.stdout.splitlines()
    marked = [["lposs", "[1]", "[2]"], ["lposs+", "[1]", "[2]"]]
    assert [line.split()[:3] for line in lines[2:4]] == marked
    assert lines[5].startswith("[1] the feats' grid of 3 x 4 patches")
    assert "Pass --option patch_size=32 if that is right" in lines[5]
    assert lines[6].startswith("[2] --option k: got 400 for 12 patches.")
    assert lines[7].startswith("all rows: --gt: got the class 0 (0) alone")
    table = table_of(tmp_path)
    assert table["bilinear"]["warnings"] == ""
    assert table["lposs"]["warnings"] == f"{lines[5][4:]} | {lines[6][4:]}"
