"""Chains and modules: what they compute, need, show, and survive."""

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn

import lpprop

GRID, PIXELS = (4, 5), (64, 80)


def inputs(batch=2, grid=GRID):
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(batch, 3, *grid, generator=generator)
    feats = torch.rand(batch, 8, *GRID, generator=generator)
    image = torch.rand(batch, 3, *PIXELS, generator=generator)
    return logits, feats, image


class Count(nn.Module):
    """A step that counts its calls and changes nothing; it knows of windows."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, logits, *, feats, image, attention, windows=None):
        self.calls += 1
        return logits


def double(logits, *, feats, image, attention):
    return 2 * logits


# --------------------------------------------------------------------------- modules

MODULES = {
    "patches": (
        lpprop.PatchPropagation(k=7, gamma=2.0, spatial="none"),
        lambda logits, feats, image: lpprop.propagate_patches(
            logits, feats, k=7, gamma=2.0, spatial="none"
        ),
    ),
    "pixels": (
        lpprop.PixelPropagation(r=5, tau=0.1),
        lambda logits, feats, image: lpprop.propagate_pixels(
            logits, torch.nn.functional.avg_pool2d(image, 16), r=5, tau=0.1
        ),
    ),
    "bilinear": (
        lpprop.BilinearUpsample(),
        lambda logits, feats, image: lpprop.bilinear_upsample(logits, PIXELS),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_its_function_with_the_same_options(name):
    module, function = MODULES[name]
    logits, feats, image = inputs()
    guide = torch.nn.functional.avg_pool2d(image, 16) if name == "pixels" else image
    assert torch.equal(module(logits, feats=feats, image=guide), function(logits, feats, image))


PAIRS = [
    (lpprop.PatchPropagation, lpprop.propagate_patches, {"windows"}),
    (lpprop.PixelPropagation, lpprop.propagate_pixels, {"pixel_feats"}),
    (lpprop.BilinearUpsample, lpprop.bilinear_upsample, set()),
]


@pytest.mark.parametrize(("module", "function", "given"), PAIRS)
def test_a_module_has_the_options_and_defaults_of_its_function(module, function, given):
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in given
    }
    assert module().config == keywords
    signature = inspect.signature(module)
    assert {name: p.default for name, p in signature.parameters.items()} == keywords


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (lpprop.BilinearUpsample(), "BilinearUpsample()"),
        (
            lpprop.PixelPropagation(r=5),
            "PixelPropagation(tau=0.01, r=5, alpha=0.95, max_iter=10, tol=1e-06, sigma=0.0, "
            "distance_power=1.0)",
        ),
        (
            lpprop.PatchPropagation(k=7),
            "PatchPropagation(k=7, gamma=3.0, sigma=0.01, alpha=0.95, patch_size=16, "
            "distance_power=1.0, max_iter=10, tol=1e-06, appearance='power', "
            "sigma_a=0.3333333333333333, spatial='rbf', backend='auto')",
        ),
    ],
)
def test_repr_of_a_module_makes_it_again(module, text):
    assert repr(module) == text
    assert eval(text, vars(lpprop)).config == module.config


# --------------------------------------------------------------------------- composition


def test_a_chain_applies_its_steps_in_order():
    logits, feats, image = inputs()
    chain = lpprop.Chain(
        lpprop.PatchPropagation(k=7), double, lpprop.BilinearUpsample(), lpprop.PixelPropagation()
    )
    patches = 2 * lpprop.propagate_patches(logits, feats, k=7)
    expected = lpprop.propagate_pixels(lpprop.bilinear_upsample(patches, PIXELS), image)
    assert torch.equal(chain(logits, feats=feats, image=image), expected)


def test_nesting_changes_nothing():
    logits, feats, image = inputs()
    steps = lpprop.PatchPropagation(k=7), double, lpprop.BilinearUpsample()
    flat = lpprop.Chain(*steps)
    nested = lpprop.Chain(lpprop.Chain(steps[0], lpprop.Chain(double)), lpprop.Chain(steps[2]))
    expected = flat(logits, feats=feats, image=image)
    assert torch.equal(nested(logits, feats=feats, image=image), expected)
    assert nested.needs == flat.needs
    assert nested.takes == flat.takes


def test_order_matters():
    def shift(logits, *, feats, image, attention):
        return logits + 1

    logits, _, _ = inputs()
    assert torch.equal(lpprop.Chain(double, shift)(logits), 2 * logits + 1)
    assert torch.equal(lpprop.Chain(shift, double)(logits), 2 * logits + 2)


def test_a_step_is_given_what_its_signature_names():
    seen = {}

    def plain(logits, *, feats, image, attention):
        return logits

    def with_windows(logits, *, feats, image, attention, windows):
        seen["windows"] = windows
        return logits

    def anything(logits, **given):
        seen["anything"] = set(given)
        return logits

    logits, feats, image = inputs()
    lpprop.Chain(plain, with_windows, anything)(logits, feats=feats, image=image)
    assert seen["windows"] is None
    assert seen["anything"] == {"feats", "image", "attention", "windows", "pixel_feats"}


def test_logits_are_resized_on_entry_to_the_grid_of_the_feats():
    logits, feats, image = inputs(grid=(7, 3))
    step = lpprop.PatchPropagation(k=7)
    expected = step(lpprop.bilinear_upsample(logits, GRID), feats=feats)
    assert torch.equal(lpprop.Chain(step)(logits, feats=feats, image=image), expected)
    # Only where a step needs the feats.
    assert torch.equal(lpprop.Chain(double)(logits, feats=feats), 2 * logits)


@pytest.mark.parametrize(
    ("chain", "needs", "takes", "merges"),
    [
        (lpprop.Chain(double), (), set(), False),
        (lpprop.Chain(lpprop.BilinearUpsample()), (), {"windows"}, True),
        (lpprop.Chain(lpprop.PatchPropagation()), ("feats",), {"windows"}, False),
        (lpprop.Chain(lpprop.PixelPropagation()), ("image",), {"pixel_feats"}, False),
        (lpprop.presets.lposs(), ("feats",), {"windows"}, True),
        (lpprop.presets.lposs_plus(), ("feats", "image"), {"windows", "pixel_feats"}, True),
        (
            lpprop.Chain(lpprop.PixelPropagation(), lpprop.Chain(lpprop.presets.lposs_plus())),
            ("image", "feats"),
            {"windows", "pixel_feats"},
            True,
        ),
    ],
)
def test_a_chain_knows_what_its_steps_need(chain, needs, takes, merges):
    assert chain.needs == needs
    assert takes <= chain.takes
    assert {"feats", "image", "attention"} <= chain.takes
    assert chain.merges_windows is merges


@pytest.mark.parametrize("missing", ["feats", "image"])
def test_a_missing_input_is_refused_before_any_step(missing):
    logits, feats, image = inputs()
    count = Count()
    given = {"feats": feats, "image": image} | {missing: None}
    with pytest.raises(
        lpprop.InputError,
        match=rf"^{missing}: got None, expected a tensor\. "
        rf"This method needs it: pass {missing}=\.$",
    ):
        lpprop.Chain(count, lpprop.presets.lposs_plus())(logits, **given)
    assert count.calls == 0


def test_pixel_feats_replace_the_colours_of_the_image():
    logits, _, image = inputs()
    depth = image[:, :1]
    chain = lpprop.Chain(lpprop.BilinearUpsample(), lpprop.PixelPropagation())
    full = lpprop.bilinear_upsample(logits, PIXELS)
    expected = lpprop.propagate_pixels(full, None, pixel_feats=depth)
    assert torch.equal(chain(logits, image=image, pixel_feats=depth), expected)


# --------------------------------------------------------------------------- windows


def windowed():
    windows = lpprop.SlidingWindows((80, 112), 64, 32)
    logits, feats, _ = inputs(len(windows))
    return windows, logits, feats, torch.rand(1, 3, 80, 112)


def test_windows_are_merged_once_and_are_then_one_image():
    windows, logits, feats, image = windowed()
    patches = lpprop.propagate_patches(logits, feats, windows=windows)
    expected = lpprop.propagate_pixels(windows.merge(patches), image)
    for chain in (
        lpprop.presets.lposs_plus(),
        lpprop.Chain(lpprop.presets.lposs(), lpprop.PixelPropagation()),
        lpprop.Chain(lpprop.PatchPropagation(), lpprop.BilinearUpsample(), Count(),
                     lpprop.PixelPropagation()),
    ):  # fmt: skip
        assert torch.equal(chain(logits, feats=feats, image=image, windows=windows), expected)


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ((lpprop.PixelPropagation(), lpprop.BilinearUpsample()), "PixelPropagation"),
        ((lpprop.PatchPropagation(), double), "double"),
        ((lpprop.Chain(double), lpprop.BilinearUpsample()), "double"),
        ((lpprop.Chain(lpprop.PatchPropagation()), lpprop.PixelPropagation()), "PixelPropagation"),
    ],
)
def test_windows_that_a_step_does_not_take_are_refused_before_any_step(steps, name):
    windows, logits, feats, image = windowed()
    count = Count()
    with pytest.raises(
        lpprop.InputError,
        match=rf"^windows: got sliding windows, expected None, since {name} works on one image\. "
        r"Put BilinearUpsample\(\) before it, give it a keyword windows=, or call it on "
        r"windows\.merge\(logits\)\.$",
    ):
        lpprop.Chain(count, *steps)(logits, feats=feats, image=image, windows=windows)
    assert count.calls == 0


def test_steps_after_the_merge_need_not_take_windows():
    windows, logits, feats, image = windowed()
    chain = lpprop.Chain(lpprop.PatchPropagation(), lpprop.BilinearUpsample(), double)
    patches = lpprop.propagate_patches(logits, feats, windows=windows)
    assert torch.equal(
        chain(logits, feats=feats, image=image, windows=windows), 2 * windows.merge(patches)
    )


# --------------------------------------------------------------------------- as a torch module


def test_repr_shows_the_steps():
    assert repr(lpprop.Chain(lpprop.BilinearUpsample(), double)) == (
        "Chain(\n"
        "  (steps): ModuleList(\n"
        "    (0): BilinearUpsample()\n"
        "    (1): _FunctionStep(double)\n"
        "  )\n"
        ")"
    )


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda chain: pickle.loads(pickle.dumps(chain))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_computes_the_same(again):
    logits, feats, image = inputs()
    chain = lpprop.Chain(lpprop.PatchPropagation(k=7, gamma=2.0), double, lpprop.presets.lposs())
    twin = again(chain)
    assert type(twin) is lpprop.Chain
    assert repr(twin) == repr(chain)
    given = {"feats": feats, "image": image}
    assert torch.equal(twin(logits, **given), chain(logits, **given))


@pytest.mark.parametrize(
    "module",
    [
        lpprop.PatchPropagation(k=7, appearance="exponential"),
        lpprop.PixelPropagation(tau=0.1),
        lpprop.BilinearUpsample(),
        lpprop.presets.lposs_plus(backbone="dinov2"),
    ],
    ids=lambda module: type(module).__name__,
)
def test_modules_survive_pickle_and_have_no_state(module):
    twin = pickle.loads(pickle.dumps(module))
    assert repr(twin) == repr(module)
    assert module.state_dict() == {}
    assert not list(module.parameters())


def test_a_learnt_step_is_seen_by_torch():
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))

        def forward(self, logits, *, feats, image, attention):
            return self.weight * logits

    logits, feats, image = inputs()
    chain = lpprop.Chain(Scale(), lpprop.PatchPropagation(), lpprop.BilinearUpsample())
    assert list(chain.state_dict()) == ["steps.0.weight"]
    chain(logits, feats=feats, image=image).sum().backward()
    assert chain.steps[0].weight.grad != 0
    assert chain.eval().training is chain.steps[0].training is False


def test_hooks_run():
    logits, _, _ = inputs()
    chain = lpprop.Chain(double)
    chain.register_forward_hook(lambda module, given, result: result + 1)
    assert torch.equal(chain(logits), 2 * logits + 1)


def test_fitted_makes_a_chain_for_another_patch_size_and_leaves_the_first():
    chain = lpprop.Chain(lpprop.PatchPropagation(k=7), lpprop.Chain(lpprop.PatchPropagation()))
    assert chain.fitted((4, 5), (64, 80)).steps[0].patch_size == 16
    fitted = chain.fitted((4, 5), (128, 160))
    assert fitted.steps[0].patch_size == fitted.steps[1].steps[0].patch_size == 32
    assert fitted.steps[0].k == 7
    assert chain.steps[0].patch_size == chain.steps[1].steps[0].patch_size == 16


def test_a_subclass_of_a_refiner_is_configured_as_that_one():
    class Mine(lpprop.PatchPropagation):
        pass

    assert Mine(k=3).config == lpprop.PatchPropagation(k=3).config
    assert Mine().needs == ("feats",)


def test_a_function_may_merge_windows():
    windows = lpprop.SlidingWindows((64, 96), window=64, stride=32)

    def merge(logits, *, feats, image, attention, windows):
        return windows.merge(logits)

    merge.merges_windows = True
    logits = torch.rand(len(windows), 2, 4, 4)
    chain = lpprop.Chain(merge, lpprop.PixelPropagation(r=3))
    image = torch.rand(1, 3, 64, 96)
    expected = lpprop.propagate_pixels(windows.merge(logits), image, r=3)
    assert torch.equal(chain(logits, image=image, windows=windows), expected)
