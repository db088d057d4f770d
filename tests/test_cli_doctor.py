"""`lpprop doctor`: what it says of what works, of what is missing, and of what is broken."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lpprop
from lpprop import refiners
from lpprop.cli import checkup, main
from lpprop.models.recipes import RECIPES, Model
from lpprop.models.weights import find_missing


@pytest.fixture
def said(capsys):
    """Runs the command; its exit code, and the state and the fix of each finding by its name."""

    def run():
        code = main(["doctor"])
        text = capsys.readouterr().out
        lines = re.findall(r"^([! ]) (\S.{17}) (.*)(?:\n {21}(\S.*))?$", text, re.MULTILINE)
        return code, {name.strip(): (mark, state, fix) for mark, name, state, fix in lines}, text

    return run


def test_what_is_here_is_told_as_it_is(said):
    code, found, text = said()
    assert code == 0
    assert text.endswith("Everything that is required works.\n")
    assert not {mark for mark, *_ in found.values()} - {" "}
    assert found["lpprop"][1] == lpprop.__version__
    assert found["numpy"][1] == np.__version__
    assert found["torch"][1] == "works"
    assert f"{torch.__version__}, built with" in text
    assert f"{torch.get_num_threads()} threads" in found["cpu"][1]
    assert ("cuda:0" in found) == torch.cuda.is_available()
    assert set(RECIPES) <= set(found)


def test_every_extra_for_users_is_there_with_the_line_that_installs_it(said, monkeypatch):
    lines = importlib.metadata.requires("lpprop")
    if lines is None:
        pytest.skip("lpprop is not installed")
    extras = set(importlib.metadata.metadata("lpprop").get_all("Provides-Extra"))
    there = importlib.metadata.version

    def without(name):
        if name in ("optuna", "transformers"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "diffusers" else there(name)

    monkeypatch.setattr(importlib.metadata, "version", without)
    code, found, _ = said()
    assert code == 0  # an extra is not required
    assert extras - set(checkup._WORKSHOP) <= set(found)
    assert found["tune"][1:] == ("lacks optuna", "pip install 'lpprop[tune]'")
    state = found["models"][1]
    assert "transformers" in state
    assert "diffusers >= 0.37 (it is 0.1)" in state


def test_a_required_package_that_cannot_be_imported_is_broken(said, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    code, found, text = said()
    assert code == 1
    mark, state, fix = found["opencv-python"]
    assert mark == "!"
    assert state.startswith("cannot be imported (ModuleNotFoundError: ")
    assert fix == "pip install opencv-python-headless"
    assert text.endswith("1 required thing does not work: see !\n")


def test_a_required_package_that_is_too_old_is_broken(said, monkeypatch):
    monkeypatch.setattr("tqdm.__version__", "4.9.1")
    code, found, _ = said()
    assert code == 1
    assert found["tqdm"] == ("!", "4.9.1, older than 4.66", "pip install 'tqdm>=4.66'")


def test_a_backend_that_gives_wrong_results_is_broken(said, monkeypatch):
    right = refiners.propagate_pixels

    def wrong(*args, backend, **options):
        scores = right(*args, backend="torch", **options)
        return scores + 1 if backend == "llvm" else scores

    monkeypatch.setattr(refiners, "propagate_pixels", wrong)
    code, found, _ = said()
    assert code == 1
    assert found["llvm"][:2] == ("!", "gives wrong results")
    assert found["torch"][:2] == (" ", "works")


def test_where_torch_cannot_be_imported_all_else_is_told(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: no such file')")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "lpprop", "doctor"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == ""
    assert "! torch              cannot be imported (OSError: libtorch.so: no such file)" in (
        done.stdout
    )
    assert "  numpy              2." in done.stdout or "  numpy              1." in done.stdout
    assert "recipes            unknown" in done.stdout


def test_nothing_private_is_in_the_text(said, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "jane"))
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "jane" / "hub")
    )
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    _, found, text = said()
    assert found["their cache"][1] == "~/hub"
    assert found["OMP_NUM_THREADS"][1] == "1"
    assert not re.search(r"jane|hf_secret", text)
    assert str(Path.home()) not in text
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/projects/jane/hub")
    _, found, text = said()
    assert "jane" not in text
    assert found["their cache"][1] == "where HF_HOME or HF_HUB_CACHE says"


def test_what_a_recipe_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    dino = Model("VisionTransformer", "dino-vitb8")
    assert find_missing(dino) == "facebook/dino-vitb8"
    folder = tmp_path / "models--facebook--dino-vitb8"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("1" * 40)
    snapshot = folder / "snapshots" / ("1" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert find_missing(dino) == "facebook/dino-vitb8"  # whose weights are missing
    (snapshot / "model.safetensors").write_bytes(b"")
    assert find_missing(dino) == ""
    assert find_missing(Model("VisionTransformer", tmp_path)) == ""
    assert find_missing(Model("StableDiffusion", "owner/name")) == "owner/name"
    with pytest.raises(lpprop.InputError, match="checkpoint"):
        find_missing(Model("VisionTransformer", "dino"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_missing(dino) == "transformers"
    assert find_missing(Model("EfficientNetLite0")) == "efficientnet_lite_pytorch"
