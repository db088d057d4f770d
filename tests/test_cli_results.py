"""Results and their record: the same again is skipped, anything else is refused or made again."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop.cli import main
from test_cli import LPOSS, arguments, make_item, results

pytestmark = pytest.mark.filterwarnings("ignore::lpprop.InputWarning")


def made(folder, stem="a"):
    return {path.name: path.read_bytes() for path in results(folder, stem)}


def expected(item, **options):
    logits, feats, image = item
    return lpprop.refine(logits, feats, image, **options)[0].numpy()


def scores(folder, stem="a"):
    return np.load(results(folder, stem)[2])


@pytest.mark.parametrize(
    ("change", "difference", "options"),
    [
        (["--method", "max_velocity"], "method was auto and is max_velocity",
         {"method": "max_velocity"}),
        (["--option", "k=5"], "k was auto and is 5", {"k": 5}),
        (["--option", "feats_from=dinov2"],
         "feats_from was vit-b/16 and is dinov2; patch_size was 16", {"feats_from": "dinov2"}),
        (["--size", "24", "32"], "size was not given and is 24, 32", {"size": (24, 32)}),
    ],
)  # fmt: skip
def test_other_settings_are_refused_in_words(tmp_path, capsys, change, difference, options):
    item = make_item(tmp_path, "a")
    argv = arguments(tmp_path, "a")
    assert main(argv) == 0
    before = made(tmp_path)
    capsys.readouterr()

    assert main([*argv, *change]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("error")) == ("", 1)
    assert f"a.png: {difference}" in said.err
    assert "--overwrite" in said.err
    assert made(tmp_path) == before

    assert main([*argv, *change, "--overwrite"]) == 0
    np.testing.assert_allclose(scores(tmp_path), expected(item, **options), rtol=1e-4, atol=1e-6)
    assert main([*argv, *change]) == 0  # they are the record's now
    assert "1 skipped" in capsys.readouterr().out


def test_the_same_settings_in_other_words_are_the_same(tmp_path, capsys):
    make_item(tmp_path, "a")
    argv = arguments(tmp_path, "a")
    assert main(argv) == 0
    same = ["--method", "auto", "--option", "k=auto", "--option", "feats_from=vit-b/16"]
    assert main([*argv, *same]) == 0
    assert "1 skipped" in capsys.readouterr().out


def test_images_with_one_difference_are_counted_together(tmp_path, capsys):
    for seed, stem in enumerate("abc"):
        make_item(tmp_path, stem, seed)
    argv = [*arguments(tmp_path), "--method", "lposs"]
    assert main(argv) == 0
    make_item(tmp_path, "d", 3)  # new images are no difference
    assert main(argv) == 0
    assert "1 refined" in capsys.readouterr().out.splitlines()[-1]
    assert main([*argv, "--option", "alpha=0.5"]) == 1
    assert "(a.png and 3 more: alpha was 0.95 and is 0.5)" in capsys.readouterr().err


def test_inputs_count_by_their_content(tmp_path, capsys):
    for stem, seed in (("a", 0), ("b", 1)):
        make_item(tmp_path, stem, seed)
    argv = [*arguments(tmp_path), "--method", "lposs"]
    assert main(argv) == 0
    file, other = tmp_path / "logits" / "a.npy", tmp_path / "logits" / "b.npy"
    times = file.stat()
    os.utime(file, ns=(1, 1))  # touched
    assert main(argv) == 0
    assert "2 skipped" in capsys.readouterr().out
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    shutil.copytree(tmp_path / "logits", tmp_path / "copy")  # the same, elsewhere
    elsewhere = [*argv]
    elsewhere[elsewhere.index("--logits") + 1] = str(tmp_path / "copy")
    assert main(elsewhere) == 0
    assert "2 skipped" in capsys.readouterr().out

    copied = tmp_path / "copy" / "a.npy"  # other content of the same size and time, elsewhere
    copied.write_bytes(other.read_bytes())
    os.utime(copied, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert main(elsewhere) == 1
    said = capsys.readouterr().err
    assert f"a.png: --logits was {file} and is {copied}, which holds something else" in said

    file.write_bytes(other.read_bytes())  # replaced in its place
    assert main(argv) == 1
    assert f"the content of --logits, {file}, has changed" in capsys.readouterr().err
    Image.new("RGB", (64, 48)).save(tmp_path / "images" / "b.png")
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert "a.png: the content of --logits" in said
    assert "b.png: the content of IMAGE" in said
    assert main([*argv, "--overwrite"]) == 0
    assert main(argv) == 0
    assert "2 skipped" in capsys.readouterr().out


def test_an_input_that_comes_or_goes(tmp_path, capsys):
    make_item(tmp_path, "a")
    np.save(tmp_path / "attention.npy", np.full((12, 12), 1 / 12, np.float32))
    argv = [*arguments(tmp_path, "a"), "--method", "max_velocity"]
    more = ["--attention", str(tmp_path / "attention.npy")]
    assert main(argv) == 0
    assert main([*argv, *more]) == 1
    assert "--attention was not given and is" in capsys.readouterr().err
    assert main([*argv, *more, "--overwrite"]) == 0
    assert main(argv) == 1
    assert "attention.npy and is not given" in capsys.readouterr().err


@pytest.mark.parametrize("record", [None, b"", b"[1]", b'{"complete": true}', b"[" * 100_000])
def test_results_of_unknown_origin_are_refused(tmp_path, capsys, record):
    make_item(tmp_path, "a")
    (tmp_path / "out").mkdir()
    labels, _, _, record_file = results(tmp_path, "a")
    labels.write_bytes(b"drawn by hand")
    if record is not None:
        record_file.write_bytes(record)
    argv = [*arguments(tmp_path, "a"), "--method", "lposs"]
    assert main(argv) == 1
    assert "a_labels.png is there without a record of how it was made" in capsys.readouterr().err
    assert labels.read_bytes() == b"drawn by hand"
    assert main([*argv, "--overwrite"]) == 0
    assert main(argv) == 0
    assert "1 skipped" in capsys.readouterr().out


def test_refused_before_any_work(tmp_path, capsys, monkeypatch):
    make_item(tmp_path, "a")
    argv = [*arguments(tmp_path, "a"), "--method", "lposs"]
    assert main(argv) == 0
    make_item(tmp_path, "b", 1)
    monkeypatch.setattr("lpprop.cli.refine._refine_image", lambda *_: pytest.fail("work was done"))
    assert main([*arguments(tmp_path), "--method", "lposs+"]) == 1
    assert "method was lposs and is lposs+" in capsys.readouterr().err


#: Runs the command line, and kills the process before the n-th file takes its name.
KILLED = """
import os, signal, sys
from pathlib import Path
from lpprop.cli import main

left, replace = int(sys.argv[1]), Path.replace

def replace_or_die(self, target):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

Path.replace = replace_or_die
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("before", range(1, 7))
def test_a_kill_never_leaves_a_wrong_skip(tmp_path, before):
    """Five files take their names: record, scores, overlay, labels, and the record again."""
    item = make_item(tmp_path, "a")
    argv = arguments(tmp_path, "a")
    old = [*argv, "--method", "lposs"]
    assert main(old) == 0
    complete = made(tmp_path)
    command = [sys.executable, "-c", KILLED, str(before), *argv, "--method", "pamr"]
    command = [part for part in command if part not in ("--feats", argv[argv.index("--feats") + 1])]
    killed = subprocess.run([*command, "--overwrite"], capture_output=True, check=False)
    if before == 6:  # the run was through
        assert killed.returncode == 0
        assert main(old) == 1
        return
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "out").glob(".*.tmp"))  # what it left
    assert main(old) == 0
    now = made(tmp_path)
    assert now == complete
    assert not list((tmp_path / "out").glob(".*"))
    want = expected(item, method="lposs")
    np.testing.assert_allclose(scores(tmp_path), want, rtol=1e-4, atol=1e-6)


def test_the_record_says_how_the_results_were_made(tmp_path):
    make_item(tmp_path, "a")
    assert main([*arguments(tmp_path, "a"), "--method", "lposs", "--option", "k=5"]) == 0
    record = json.loads(results(tmp_path, "a")[3].read_text())
    assert record["lpprop"] == lpprop.__version__
    assert record["settings"]["method"] == "lposs"
    assert record["settings"]["options"] == lpprop.presets.lposs.options | {"k": 5}
    assert record["inputs"]["--feats"]["path"] == str(tmp_path / "feats" / "a.npz")


@pytest.mark.parametrize("largest", [1e39, -1e39])
def test_scores_beyond_float32_are_refused_before_anything_is_written(tmp_path, capsys, largest):
    make_item(tmp_path, "a")
    np.save(tmp_path / "logits" / "a.npy", np.full((4, 3, 4), largest))
    argv = arguments(tmp_path, "a")
    place = argv.index("--feats")
    argv[place : place + 2] = ["--method", "bilinear"]
    assert main(argv) == 1
    said = capsys.readouterr().err
    assert f"images{os.sep}a.png: --logits: got scores of up to 1e+39 for " in said
    assert "a_scores.npy" in said
    assert "Divide the logits" in said
    assert not list((tmp_path / "out").iterdir())


def test_too_many_classes_are_refused_at_once(tmp_path, capsys, monkeypatch):
    make_item(tmp_path, "a")
    np.save(tmp_path / "logits" / "a.npy", np.zeros((65537, 1, 1), np.float32))
    monkeypatch.setattr(
        "lpprop.compose.pipeline.refine", lambda *_, **__: pytest.fail("work was done")
    )
    assert main(arguments(tmp_path, "a")) == 1
    assert "--logits: got 65537 classes, expected at most 65536" in capsys.readouterr().err


def test_a_mask_of_left_out_classes_is_stored_as_it_is(tmp_path):
    """Minus infinity is no overflow."""
    from lpprop.io.arrays import as_float32

    left_out = torch.tensor([-torch.inf, 0.0], dtype=torch.float64)
    assert as_float32(left_out, tmp_path / "a.npy").tolist() == [-np.inf, 0]


def test_results_beyond_the_memory_are_refused_at_once(tmp_path, capsys, monkeypatch):
    """10 MB are free: 4 classes of 700 x 700 pixels take 4 * 4 + 8 bytes per pixel, 11.8 MB."""
    make_item(tmp_path, "a")
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 10**7)
    argv = [*arguments(tmp_path, "a"), *LPOSS]
    assert main([*argv, "--size", "600", "600"]) == 0
    monkeypatch.setattr(
        "lpprop.compose.pipeline.refine", lambda *_, **__: pytest.fail("work was done")
    )
    assert main([*argv, "--size", "700", "700", "--overwrite"]) == 1
    said = capsys.readouterr().err
    assert "--size: got 700 x 700 pixels of 4 classes, which take 0.011 GiB" in said
    assert main([*argv, "--size", "40000", "40000", "--overwrite"]) == 1
    assert "which take 35.8 GiB" in capsys.readouterr().err
