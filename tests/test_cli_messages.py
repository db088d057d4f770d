"""What the commands say: in their own words, once, and nothing that drives a terminal."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpprop._core.errors import InputError, warn
from lpprop.cli import build_parser, main
from lpprop.cli.messages import translate, visible
from test_cli import LPOSS, arguments, make_item

COMMANDS = {
    "refine": ["a.png", "--logits", "a.npy", "--out", "b"],
    "segment": ["a.png", "--classes", "cat", "sofa"],
    "compare": ["a.png", "--logits", "a.npy", "--out", "b"],
    "demo": [],
}


def command(name):
    return build_parser().parse_args([name, *COMMANDS[name]]).command


# --------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("name", "python", "own"),
    [
        ("refine", "Pass patch_size=14 if", "Pass --option patch_size=14 if"),
        ("refine", "Pass logit_scale=100.", "Pass --option logit_scale=100."),
        ("refine", "Pass size=(H, W).", "Pass --size H W."),
        ("refine", "use size=(48, 64), or", "use --size 48 64, or"),
        ("refine", "the full size as size=.", "the full size as --size."),
        ("refine", "Pass image=, or", "Pass IMAGE, or"),
        ("refine", 'method="max_velocity"', "--method max_velocity"),
        ("refine", "feats_from='dinov2' too", "--option feats_from=dinov2 too"),
        ("refine", "dilations=(8, 16)", "--option dilations=8,16"),
        ("refine", "pixel_feats: got 3", "--pixel-feats: got 3"),
        ("refine", "logits: got 3, change logits", "--logits: got 3, change logits"),
        ("refine", "k: got 0. Change k.", "--option k: got 0. Change --option k."),
        ("refine", "Pass --option k=5.", "Pass --option k=5."),
        ("refine", "unknown=3, B=1 and a.b=2", "unknown=3, B=1 and a.b=2"),
        (
            "refine",
            "got run/k=5/a.npy, k=5/a.npy, lr=1,k=5",
            "got run/k=5/a.npy, k=5/a.npy, lr=1,k=5",
        ),
        ("refine", "feats_from=vit-b/8", "--option feats_from=vit-b/8"),
        ("refine", "one as image and the", "one as IMAGE and the"),
        ("refine", "pass span=(32, 48)", "pass --span 32 48"),
        ("segment", "shorter_side: got 0. Change it.", "--side: got 0. Change it."),
        ("segment", "classes[1]: got 'x'.", "--classes[1]: got 'x'."),
        ("segment", "Pass size=(H, W).", "Pass --option size=H,W."),
        ("compare", "class_names: got 2 names", "--classes: got 2 names"),
        ("demo", "Pass k=3 with image=", "Pass k=3 with --image"),
        ("demo", "out: got a.jpg", "--out: got a.jpg"),
    ],
)
def test_messages_are_in_the_words_of_the_command(name, python, own):
    assert translate(python, command(name)) == own


def test_advice_can_be_followed(tmp_path, capsys):
    """What an error says in the words of Python is said in those of the command."""
    make_item(tmp_path, "a")
    argv = arguments(tmp_path, "a")
    place = argv.index("--feats")
    argv[place : place + 2] = ["--method", "pamr"]
    assert main([*argv, "--option", "dilations=0,1"]) == 1
    assert capsys.readouterr().err.startswith("lpprop: error: --option dilations")
    assert main([*argv, "--size", "0", "5"]) == 1
    assert "a.png: " in (said := capsys.readouterr().err)
    assert "size[0]: got 0" in said


# --------------------------------------------------------------------------- warnings


def warn_of(*messages):
    def work(results, *_):
        for message in messages:
            warn("kind", message.replace("IMAGE", str(results.image)))
            warn("kind", message.replace("IMAGE", str(results.image)))

    return work


@pytest.mark.parametrize("filters", ["error", "ignore", "default", "always"])
def test_a_warning_is_said_once_with_its_image(tmp_path, capsys, monkeypatch, recwarn, filters):
    for stem in "abcdef":
        make_item(tmp_path, stem)
    work = warn_of("Pass logit_scale=100.", "IMAGE: it is odd.", "IMAGE: it is odd.")
    monkeypatch.setattr("lpprop.cli.refine._refine_image", work)
    with warnings.catch_warnings():
        warnings.simplefilter(filters)
        assert main([*arguments(tmp_path), *LPOSS]) == 0
    images = tmp_path / "images"
    assert capsys.readouterr().err.splitlines() == [
        f"lpprop: warning: {images / 'a.png'}: Pass --option logit_scale=100.",
        f"lpprop: warning: {images / 'a.png'}: it is odd.",
        "lpprop: warning: b.png, c.png, d.png and 2 more: as above, Pass --option logit_scale=100.",
        "lpprop: warning: b.png, c.png, d.png and 2 more: as above, it is odd.",
    ]
    assert not recwarn.list


@pytest.mark.filterwarnings("default")
def test_a_warning_before_any_image_is_said_once_for_all(tmp_path, capsys, monkeypatch):
    def find_device(name):
        warn("kind", "Pass logit_scale=100.")

    monkeypatch.setattr("lpprop.cli.refine.find_device", find_device)
    monkeypatch.setattr("lpprop.cli.refine._refine_image", warn_of("Pass logit_scale=100."))
    for stem in "ab":
        make_item(tmp_path, stem)
    assert main([*arguments(tmp_path), *LPOSS]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "lpprop: warning: Pass --option logit_scale=100."
    ]


@pytest.mark.filterwarnings("default")
def test_a_warning_before_an_error_is_said_too(tmp_path, capsys, monkeypatch):
    def find_device(name):
        warn("kind", "Pass logit_scale=100.")
        raise InputError("stop: here")

    monkeypatch.setattr("lpprop.cli.refine.find_device", find_device)
    make_item(tmp_path, "a")
    assert main([*arguments(tmp_path), *LPOSS]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "lpprop: warning: Pass --option logit_scale=100." in said


# --------------------------------------------------------------------------- orientations


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("suffix", "orientation"),
    [("jpg", number) for number in range(1, 9)]
    + [(suffix, number) for suffix in ("png", "webp", "tif") for number in (1, 5, 6)],
)
def test_an_image_beside_arrays_counts_as_its_stored_pixels(tmp_path, capsys, orientation, suffix):
    """The result is that of the same picture without the tag, whatever the tag says."""
    make_item(tmp_path, "a")
    argv = ["--logits", str(tmp_path / "logits" / "a.npy"), "--method", "pamr"]
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == "webp" else {}
    plain, turned = tmp_path / f"plain.{suffix}", tmp_path / f"turned.{suffix}"
    picture.save(plain, **lossless)
    picture.save(turned, exif=exif, **lossless)
    for file in (plain, turned):
        assert main(["refine", str(file), *argv, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    for part in ("scores.npy", "labels.png", "overlay.png"):
        got, want = (tmp_path / "out" / f"{stem}_{part}" for stem in ("turned", "plain"))
        assert got.read_bytes() == want.read_bytes()
    assert said.count("warning") == (orientation != 1)
    if orientation != 1:
        assert f"{turned}: its EXIF orientation {orientation} (" in said
    comparing = ["compare", str(turned), *argv[:2], "--methods", "bilinear", "pamr", "--out"]
    assert main([*comparing, str(tmp_path / "compared")]) == 0
    assert capsys.readouterr().err.count(f"EXIF orientation {orientation} (") == (orientation != 1)


# --------------------------------------------------------------------------- names and streams


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ü 猫", "plain, ü 猫"),
        ("a\x1b[2J\nb", r"a\x1b[2J\nb"),
        ("\x07\x9b\u202e\udcff", r"\x07\x9b\u202e\udcff"),
    ],
)
def test_what_is_invisible_is_written_out(text, shown):
    assert visible(text) == shown


def process(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lpprop", *arguments],
        capture_output=True,
        check=False,
        timeout=120,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("stem", [b"a\x1b[31m\nlpprop: error: none", b"\xff\xfe", "猫".encode()])
def test_odd_names_of_images_and_folders(tmp_path, stem):
    make_item(tmp_path, "a")
    odd = Path(os.fsdecode(stem))
    for part, suffix in (("images", "png"), ("logits", "npy"), ("feats", "npz")):
        (tmp_path / part / f"a.{suffix}").rename(tmp_path / part / f"{odd}.{suffix}")
    argv = arguments(tmp_path)
    argv[-1] += str(odd).replace("/", "")
    done = process(*argv, *LPOSS, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stdout + done.stderr
    assert done.stdout.startswith(b"1 refined into ")
    assert done.stdout.count(b"\n") == 1
    (labels,) = Path(argv[-1]).glob("*_labels.png")
    assert labels.name == f"{odd}_labels.png"
    assert b"1 skipped" in process(*argv, *LPOSS).stdout
    (tmp_path / "logits" / f"{odd}.npy").write_bytes(b"no array")
    failed = process(*argv, *LPOSS, "--overwrite", PYTHONIOENCODING="ascii")
    assert failed.returncode == 1
    assert b"\x1b" not in failed.stdout + failed.stderr
    assert failed.stderr.count(b"\n") == 1
    assert b"Traceback" not in failed.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_compare_names_its_files_in_one_visible_line(tmp_path, capsys):
    make_item(tmp_path, "a")
    argv = arguments(tmp_path, "a")
    comparing = [
        "compare",
        *argv[1:-1],
        f"{tmp_path}/o\x1b[31m\nut",
        "--methods",
        "bilinear",
        "pamr",
    ]
    assert main(comparing) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("figure and tables: ")
    assert r"o\x1b[31m\nut" in last


@pytest.mark.parametrize(
    "environment",
    [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252:strict"},
     {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
)  # fmt: skip
def test_narrow_streams(tmp_path, environment):
    make_item(tmp_path, "a")
    out = tmp_path / "Ergebnis ł"
    argv = arguments(tmp_path, "a")
    argv[-1] = str(out)
    done = process(*argv, *LPOSS, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"1 refined into ")
    assert len(list(out.iterdir())) == 4
    place = argv.index("--out")
    comparing = ["compare", *argv[1:place], "--methods", "bilinear", "lposs:k=3", "--out", argv[-1]]
    done = process(*comparing, **environment)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_process_without_streams(tmp_path, monkeypatch):
    for stem in "ab":
        make_item(tmp_path, stem)
    with monkeypatch.context() as without:
        without.setattr(sys, "stdout", None)
        without.setattr(sys, "stderr", None)
        code = main([*arguments(tmp_path), *LPOSS])
        failed = main([*arguments(tmp_path), "--method", "nothing"])
    assert (code, failed) == (0, 1)
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_usage_errors_obey_no_codes(capsys):
    with pytest.raises(SystemExit):
        main(["refine", "a.png", "--logits", "a", "--out", "b", "--\x1b[31mred"])
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="Windows has no head")
def test_a_reader_that_has_seen_enough():
    line = f"{sys.executable} -m lpprop segment --list-classes | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, check=False, timeout=120)
    assert (done.stderr, done.stdout.count(b"\n")) == (b"", 1)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["segment", "a.png", "--classes", "a", "b", "--backbone", "X"], "--recipe names the"),
        (["segment", "a.png", "--classes", "a", "b", "--metod=kl"], "did you mean --method?"),
        (["refine", "a.png", "--logits", "a", "--out", "b", "--backbone", "X"], "--backbone X"),
        (["refine", "a.png", "--logits", "a", "--out", "b", "--over-write"], "--overwrite?"),
    ],
)
def test_unknown_options_are_told_of_known_ones(capsys, argv, said):
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"usage: lpprop {argv[0]}")
    assert said in err
    assert ("--recipe" in err.splitlines()[-1]) == (said.startswith("--recipe"))


@pytest.mark.parametrize("name", ["gpu", "gpu:0"])
def test_a_gpu_is_called_cuda(tmp_path, capsys, name):
    make_item(tmp_path, "a")
    assert main([*arguments(tmp_path, "a"), "--device", name]) == 1
    assert f"--device: got {name} (" in (said := capsys.readouterr().err)
    assert "Use cuda, as NVIDIA" in said


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("k=" + "-" * 100_000 + "1", "k: got '----"),
        ("k=" + "(" * 100_000, "k: got '(((("),
        ("k=" + "[" * 150 + "]" * 150, "k: got"),
        ("k=" + "9" * 100_000, "k: got inf"),
        ("k={[]:1}", "k: got '{[]:1}'"),
        ("k=5or 6", "k: got '5or 6'"),
        (r"k='\d'", r"k: got '\\d'"),
        ("k=1e999", "k: got inf"),
        ("k=nan", "k: got nan"),
        ("k=99999999999999999999", "k: got 99999999999999999999"),
        ("k=-----1", "k: got '-----1'"),
    ],
)
def test_odd_values_of_options_are_one_clean_error(tmp_path, capsys, text, shown):
    make_item(tmp_path, "a")
    assert main([*arguments(tmp_path, "a"), "--option", text]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lpprop: error: --option {shown}")
    assert said.count("\n") == 1
    assert len(said) < 300


@pytest.mark.parametrize("more", [["k="], ["=3"], ["k"], ["3=k"], ["k=3", "k=4"], [" k=3", "k=3"]])
def test_odd_options_are_refused_as_usage(tmp_path, capsys, more):
    make_item(tmp_path, "a")
    options = [part for text in more for part in ("--option", text)]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments(tmp_path, "a"), *options])
    assert stopped.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("lpprop refine: error: argument --option: ")
    assert ("given twice" in last) == (more == ["k=3", "k=4"])
