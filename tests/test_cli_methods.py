"""`lpprop methods`: what it says of a method is what the method does."""

import ast
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop.cli import main
from lpprop.cli.methods import _wrap
from lpprop.compose.presets import METHODS
from test_cli_light import HEAVY, fresh

LINES = {"Python": r"^Python   (lpprop\.refine.*)$", "shell": r"^shell    lpprop (.*)$"}


def told(name, capsys):
    assert main(["methods", name]) == 0
    return capsys.readouterr().out


def test_the_list_has_every_method_in_aligned_columns(capsys):
    assert main(["methods"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    needs, what = head.index("needs"), head.index("what it does")
    assert [row[:needs].rstrip() for row in rows] == list(METHODS)
    for row, preset in zip(rows, METHODS.values(), strict=True):
        named = row[needs:what].strip().replace("attention or feats", "attention")
        assert named == (", ".join(preset.needs) or "nothing")
        assert row[what:].startswith(preset.note)


def test_the_list_in_markdown_is_that_of_the_readme(capsys):
    assert main(["methods", "--markdown"]) == 0
    assert capsys.readouterr().out == lpprop.presets.markdown_table() + "\n"
    with pytest.raises(SystemExit, match="2"):
        main(["methods", "lposs", "--markdown"])


@pytest.mark.parametrize("argv", [["methods"], ["methods", "lposs+"]], ids=" ".join)
def test_the_list_and_a_method_come_without_torch(argv, capsys):
    said, code, modules, _ = fresh(*argv)
    assert code == 0
    assert not modules & HEAVY
    assert main(argv) == 0
    assert said == capsys.readouterr().out


@pytest.mark.parametrize("name", METHODS)
def test_every_option_is_there_with_its_default(name, capsys):
    text = told(name, capsys)
    shown = dict(re.findall(r"^  (\w+) = (.*)$", text, re.MULTILINE))
    assert {option: ast.literal_eval(value) for option, value in shown.items()} == (
        METHODS[name].options
    )
    assert METHODS[name].paper in text
    assert told(METHODS[name].python_name, capsys) == text


@pytest.mark.parametrize("name", METHODS)
def test_the_lines_that_are_shown_run(name, capsys, tmp_path, monkeypatch):
    if not METHODS[name].is_installed:
        pytest.skip(f"{name} needs {METHODS[name].package}")
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    given = {
        "logits": torch.rand(3, 6, 8, generator=generator),
        "feats": torch.rand(8, 6, 8, generator=generator),
        "image": torch.randint(0, 256, (96, 128, 3), generator=generator).to(torch.uint8),
        "regions": torch.randint(0, 4, (96, 128), generator=generator),
    }
    given["attention"] = torch.rand(48, 48, generator=generator).softmax(-1)
    text = told(name, capsys)
    call = re.search(LINES["Python"], text, re.MULTILINE)[1]
    arrays = {key: value.numpy() for key, value in given.items()}
    scores = eval(call, {"lpprop": lpprop} | arrays)
    assert scores.shape == (1, 3, 96, 128)

    Image.fromarray(arrays["image"]).save("image.png")
    command = shlex.split(re.search(LINES["shell"], text, re.MULTILINE)[1])
    for place, word in enumerate(command):
        if word == "FILE":
            input_name = command[place - 1].removeprefix("--")
            command[place] = f"{input_name}.npy"
            np.save(command[place], arrays[input_name])
    assert main([{"IMAGE": "image.png", "DIR": "out"}.get(word, word) for word in command]) == 0
    assert np.allclose(np.load("out/image_scores.npy"), scores[0], atol=1e-5)


def test_an_unknown_method_is_refused_and_the_nearest_named(capsys):
    assert main(["methods", "LPOS+"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lpprop: error: METHOD: got 'LPOS+', expected one of bilinear, ")
    assert error.endswith("Did you mean lposs+?\n")


def test_lines_are_broken_for_a_terminal_alone(monkeypatch):
    text = "word " * 40
    assert "\n" not in _wrap(text, "  ")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "72")
    lines = _wrap(text, "start ", "      ").split("\n")
    assert lines[0].startswith("start word")
    assert lines[1].startswith("      word")
    assert max(map(len, lines)) <= 72
