"""The command line: results equal the library's, failures are one line, nothing is done twice."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop import cli
from lpprop.cli import main
from lpprop.cli.arguments import parse_option

CLASSES, SIZE = 4, (48, 64)
# More than a quarter of the 12 patches would warn.
LPOSS = ["--method", "lposs", "--option", "k=3"]
NAMES = ("labels.png", "overlay.png", "scores.npy", "record.json")


def lpprop_process(*arguments):
    command = [sys.executable, "-m", "lpprop", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def make_item(folder, stem, seed=0):
    """Write an image with logits and feats, and return them."""
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (*SIZE, 3), np.uint8)
    logits = random.normal(size=(CLASSES, 3, 4)).astype(np.float32)
    feats = random.normal(size=(8, 3, 4)).astype(np.float32)
    for part in ("images", "logits", "feats"):
        (folder / part).mkdir(exist_ok=True)
    Image.fromarray(image).save(folder / "images" / f"{stem}.png")
    np.save(folder / "logits" / f"{stem}.npy", logits)
    np.savez(folder / "feats" / f"{stem}.npz", feats=feats)
    return logits, feats, image


def arguments(folder, stem=None):
    """Spell the command for one image, or for the folders."""
    parts = {"images": "", "logits": "", "feats": ""}
    if stem is not None:
        parts = {"images": f"{stem}.png", "logits": f"{stem}.npy", "feats": f"{stem}.npz"}
    image, logits, feats = (str(folder / part / name) for part, name in parts.items())
    return ["refine", image, "--logits", logits, "--feats", feats, "--out", str(folder / "out")]


def results(folder, stem):
    return [folder / "out" / f"{stem}_{name}" for name in NAMES]


def test_version_help_and_usage(tmp_path, capsys):
    for argv, code in [
        (["--version"], 0),
        (["--help"], 0),
        (["refine", "--help"], 0),
        (["demo", "--help"], 0),
        ([], 2),
        (["refine"], 2),
        (["sharpen"], 2),
        ([*arguments(tmp_path, "a"), "--option", "k"], 2),
    ]:
        with pytest.raises(SystemExit) as stopped:
            main(argv)
        assert stopped.value.code == code
    streams = capsys.readouterr()
    assert streams.out.startswith(f"lpprop {lpprop.__version__}\n")
    assert "lpprop refine street.jpg --logits" in streams.out
    assert "expected NAME=VALUE, such as k=200, got 'k'" in streams.err


def test_refine_equals_the_library(tmp_path):
    logits, feats, image = make_item(tmp_path, "a")
    done = lpprop_process(*arguments(tmp_path, "a"), "--option", "k=3", "--option", "r=5")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"1 refined into {tmp_path / 'out'}\n"
    assert sorted((tmp_path / "out").iterdir()) == sorted(results(tmp_path, "a"))

    labels_file, overlay_file, scores_file, _ = results(tmp_path, "a")
    expected = lpprop.refine(logits, feats, image, k=3, r=5)[0].numpy()
    scores = np.load(scores_file)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    with Image.open(labels_file) as labels:
        assert labels.mode == "P"
        np.testing.assert_array_equal(np.asarray(labels), scores.argmax(0))
    with Image.open(overlay_file) as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", SIZE[::-1])


@pytest.mark.parametrize("method", lpprop.presets.METHODS)
def test_every_method(tmp_path, method):
    if method == "dense_crf":
        pytest.importorskip("pydensecrf")
    logits, feats, image = make_item(tmp_path, "a")
    files, others = [], {}
    if "regions" in lpprop.presets.METHODS[method].needs:
        others = {"regions": np.stack([image[..., 0] > 100, image[..., 1] > 100])}
        np.save(tmp_path / "masks.npy", others["regions"])
        files = ["--regions", str(tmp_path / "masks.npy")]
    assert main([*arguments(tmp_path, "a"), "--method", method, *files]) == 0
    expected = lpprop.refine(logits, feats, image, method=method, **others)[0].numpy()
    np.testing.assert_allclose(np.load(results(tmp_path, "a")[2]), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=200", 200),
        ("tau=1e-3", 1e-3),
        ("tau=inf", float("inf")),
        ("dilations=8,16", (8, 16)),
        ("dilations=(8, 16)", (8, 16)),
        ("scale=None", None),
        ("prune=True", True),
        ("feats_from=dinov2", "dinov2"),
        ("feats_from=vit-b/8", "vit-b/8"),
    ],
)
def test_values_of_options(text, value):
    assert parse_option(text) == (text.partition("=")[0], value)


@pytest.mark.parametrize("value", ["True", "False"])
def test_an_option_that_is_true_or_false(tmp_path, value):
    logits, feats, image = make_item(tmp_path, "a")
    argv = [*arguments(tmp_path, "a"), "--method", "optimal_path"]
    assert main([*argv, "--option", f"complement={value}"]) == 0
    options = {"method": "optimal_path", "complement": value == "True"}
    expected = lpprop.refine(logits, feats, image, **options)[0].numpy()
    np.testing.assert_allclose(np.load(results(tmp_path, "a")[2]), expected, rtol=1e-4, atol=1e-6)


def test_hostile_logits_in_a_process(tmp_path):
    class Bomb:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    make_item(tmp_path, "a")
    hostile = tmp_path / "a.pt"
    torch.save(Bomb(), hostile)
    argv = arguments(tmp_path, "a")
    argv[argv.index("--logits") + 1] = hostile
    done = lpprop_process(*argv)
    assert done.returncode == 1
    assert done.stderr.startswith("lpprop: error:")
    assert f"logits: got {hostile}, which holds a pickle" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "executed").exists()
    assert not list((tmp_path / "out").iterdir())


def test_existing_results_are_skipped(tmp_path, capsys):
    for seed, stem in enumerate("ab"):
        make_item(tmp_path, stem, seed)
    argv = [*arguments(tmp_path), "--method", "lposs"]
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith("2 refined into")
    written = {path: path.read_bytes() for path in results(tmp_path, "a") + results(tmp_path, "b")}

    results(tmp_path, "a")[0].write_bytes(b"mine")
    results(tmp_path, "b")[1].unlink()
    assert main(argv) == 0
    streams = capsys.readouterr()
    assert streams.out.startswith("1 refined into")
    assert "1 skipped" in streams.out
    assert results(tmp_path, "a")[0].read_bytes() == b"mine"
    assert results(tmp_path, "b")[1].read_bytes() == written[results(tmp_path, "b")[1]]

    assert main([*argv, "--overwrite"]) == 0
    assert capsys.readouterr().out.startswith("2 refined into")
    assert {path: path.read_bytes() for path in written} == written


def test_size_of_the_results(tmp_path):
    make_item(tmp_path, "a")
    argv = [*arguments(tmp_path, "a"), "--method", "lposs", "--size", "30", "50"]
    assert main(argv) == 0
    labels, overlay, scores, _ = results(tmp_path, "a")
    assert np.load(scores).shape[1:] == (30, 50)
    for file in (labels, overlay):
        with Image.open(file) as image:
            assert image.size == (50, 30)


def test_one_image_is_skipped_too(tmp_path, capsys):
    make_item(tmp_path, "a")
    argv = [*arguments(tmp_path, "a"), "--method", "lposs"]
    assert (main(argv), main(argv)) == (0, 0)
    assert capsys.readouterr().out.splitlines()[1].startswith("0 refined into")


def test_one_bad_image_does_not_stop_the_others(tmp_path, capsys):
    for seed, stem in enumerate("abc"):
        make_item(tmp_path, stem, seed)
    (tmp_path / "logits" / "a.npy").write_bytes(b"not an array")
    np.save(tmp_path / "logits" / "b.npy", np.full((CLASSES, 3, 4), np.nan))
    assert main([*arguments(tmp_path), *LPOSS]) == 1
    streams = capsys.readouterr()
    assert streams.out.endswith(", 2 failed\n")
    first, second = streams.err.splitlines()
    assert first.startswith(f"lpprop: error: {tmp_path / 'images' / 'a.png'}: --logits: got")
    assert "NaN" in second
    assert sorted((tmp_path / "out").iterdir()) == sorted(results(tmp_path, "c"))


def replaced(argv, name, value):
    position = argv.index(name) + 1
    return [*argv[:position], str(value), *argv[position + 1 :]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda argv, d: replaced(argv, "refine", d / "x.png"), "IMAGE: got"),
        (lambda argv, d: replaced(argv, "--logits", d / "x.npy"), "--logits: got"),
        (lambda argv, d: replaced(argv, "--feats", d), "--feats: got"),
        (lambda argv, d: [*argv[:4], *argv[6:]], "--feats: got nothing"),
        (
            lambda argv, d: [*argv, "--attention", "a.npy"],
            "--attention: got a.npy, expected nothing",
        ),
        (
            lambda argv, d: [*argv[:4], *argv[6:], "--method", "max_velocity"],
            "--attention: got nothing",
        ),
        (lambda argv, d: [*argv, "--method", "lpos"], "Did you mean 'lposs'"),
        (lambda argv, d: [*argv, "--option", "kay=3"], "kay: got an option"),
        (lambda argv, d: [*argv, "--option", "k=many"], "k: got 'many'"),
        (lambda argv, d: [*argv, "--option", "alpha=1.5"], "alpha: got 1.5"),
        (lambda argv, d: [*argv, "--device", "quantum"], "--device: got quantum"),
        (lambda argv, d: replaced(argv, "--out", d / "images" / "a.png"), "--out: got"),
    ],
)
def test_mistakes_are_found_before_any_work(tmp_path, capsys, monkeypatch, change, message):
    make_item(tmp_path, "a")
    monkeypatch.setattr(cli.refine, "_refine_image", lambda *_: pytest.fail("work was done"))
    assert main(change(arguments(tmp_path, "a"), tmp_path)) == 1
    streams = capsys.readouterr()
    assert streams.err.startswith("lpprop: error: ")
    assert message in streams.err
    assert streams.err.count("\n") == 1
    assert streams.out == ""


def test_all_missing_partners_are_listed(tmp_path, capsys):
    for stem in "abcd":
        make_item(tmp_path, stem)
    (tmp_path / "feats" / "b.npz").unlink()
    (tmp_path / "feats" / "d.npz").unlink()
    assert main(arguments(tmp_path)) == 1
    assert "2 of 4 images: b (0 files), d (0 files)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_results_do_not_go_among_the_images(tmp_path, capsys):
    make_item(tmp_path, "a")
    assert main(replaced(arguments(tmp_path), "--out", tmp_path / "images")) == 1
    assert "--out: got" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(OSError("disk full"), 1), (KeyboardInterrupt(), 130)])
def test_interrupted_writes_leave_nothing_half_done(tmp_path, capsys, monkeypatch, error, code):
    def half(file, array):
        file.write(b"half")
        raise error

    make_item(tmp_path, "a")
    monkeypatch.setattr(np, "save", half)
    assert main([*arguments(tmp_path, "a"), "--method", "lposs"]) == code
    assert ("disk full" if code == 1 else "interrupted") in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line(tmp_path, capsys):
    make_item(tmp_path, "a")
    Image.new("RGB", (128, 96)).save(tmp_path / "images" / "a.png")
    assert main([*arguments(tmp_path, "a"), *LPOSS]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    image = tmp_path / "images" / "a.png"
    assert line.startswith(f"lpprop: warning: {image}: the feats' grid of 3 x 4 patches")


def test_demo_passes_its_arguments_on(tmp_path, capsys, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "lpprop.cli.demo_picture.run_demo", lambda *arguments: calls.append(arguments)
    )
    assert main(["demo"]) == 0
    own = ["demo", "--image", "cat.jpg", "--classes", "tabby; tiger cat", "studio couch"]
    assert main([*own, "--out", str(tmp_path), "--affinity", "dino-vitb8"]) == 0
    cpu = torch.device("cpu")
    assert calls == [
        (None, None, Path("out"), cpu, None),
        (Path("cat.jpg"), ["tabby; tiger cat", "studio couch"], tmp_path, cpu, "dino-vitb8"),
    ]

    def missing(*_):
        raise ImportError("the demo needs an extra: pip install lpprop[demo]")

    monkeypatch.setattr("lpprop.cli.demo_picture.run_demo", missing)
    assert main(["demo"]) == 1
    assert "error: the demo needs an extra: pip" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(12, 12), (3, 48, 48)], ids=["one map", "heads of a finer grid"])
def test_attention_in_place_of_feats(tmp_path, shape):
    logits, _, image = make_item(tmp_path, "a")
    attention = np.random.default_rng(1).random(shape).astype(np.float32)
    attention /= attention.sum(-1, keepdims=True)
    np.save(tmp_path / "attention.npy", attention)
    argv = arguments(tmp_path, "a")
    place = argv.index("--feats")
    argv[place : place + 2] = ["--attention", str(tmp_path / "attention.npy")]
    options = [
        "--method",
        "max_velocity",
        "--option",
        "tau=0.5",
        "--option",
        "early_rejection=False",
    ]
    assert main([*argv, *options]) == 0
    expected = lpprop.refine(
        logits, image=image, attention=attention[None], method="max_velocity", tau=0.5,
        early_rejection=False,
    )  # fmt: skip
    scores = np.load(results(tmp_path, "a")[2])
    np.testing.assert_allclose(scores, expected[0].numpy(), rtol=1e-5)


@pytest.mark.parametrize("method", ["bilinear", "lposs+", "max_velocity"])
def test_the_grid_of_a_padded_frame(tmp_path, method):
    logits, feats, image = make_item(tmp_path, "a")
    cut = image[:41, :50]
    Image.fromarray(cut).save(tmp_path / "images" / "a.png")
    argv = [*arguments(tmp_path, "a"), "--method", method, "--span", "48", "64"]
    assert main(argv) == 0
    expected = lpprop.refine(logits, feats, cut, method=method, span=(48, 64))[0].numpy()
    assert expected.shape[1:] == (41, 50)
    np.testing.assert_allclose(np.load(results(tmp_path, "a")[2]), expected, rtol=1e-4, atol=1e-6)
