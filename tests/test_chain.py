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
    (lpprop.ClassDistribution, lpprop.class_distribution, set()),
    (lpprop.KLDiscrepancy, lpprop.kl_discrepancy, set()),
    (lpprop.ClassShares, lpprop.class_shares, set()),
    (lpprop.OptimalPath, lpprop.optimal_path, set()),
    (lpprop.MaxVelocity, lpprop.max_velocity, set()),
    (lpprop.AttentionPool, lpprop.attention_pool, set()),
    (lpprop.CorrelationPool, lpprop.correlation_pool, set()),
    (lpprop.LocalCRF, lpprop.local_crf, set()),
    (lpprop.JointBilateralUpsample, lpprop.joint_bilateral_upsample, set()),
    (lpprop.PatchPropagation, lpprop.propagate_patches, {"windows", "times"}),
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
        (lpprop.KLDiscrepancy(), "KLDiscrepancy()"),
        (
            lpprop.ClassDistribution(nms=0.5),
            "ClassDistribution(nms=0.5, threshold='relative', confidence='softmax', "
            "logit_scale=1.0, early_rejection=False)",
        ),
        (
            lpprop.OptimalPath(norm="image"),
            "OptimalPath(epsilon=0.1, iterations=50, norm='image', complement=False)",
        ),
        (
            lpprop.JointBilateralUpsample(size=(7, 9), sigma_range=0.5),
            "JointBilateralUpsample(sigma_space=1.0, sigma_range=0.5, radius=3, size=(7, 9), "
            "backend='auto')",
        ),
        (lpprop.BilinearUpsample(), "BilinearUpsample()"),
        (
            lpprop.PixelPropagation(r=5),
            "PixelPropagation(tau=0.01, r=5, alpha=0.95, max_iter=10, tol=1e-06, sigma=0.0, "
            "distance_power=1.0, solver='cg', backend='auto', prune=False)",
        ),
        (
            lpprop.PatchPropagation(k=7),
            "PatchPropagation(k=7, gamma=3.0, sigma=0.01, alpha=0.95, patch_size=16, "
            "distance_power=1.0, sigma_time=0.0, max_iter=10, tol=1e-06, appearance='power', "
            "sigma_a=0.3333333333333333, spatial='rbf', storage='auto')",
        ),
    ],
)
def test_repr_of_a_module_makes_it_again(module, text):
    assert repr(module) == text
    namespace = {name: getattr(lpprop, name) for name in lpprop.__all__}
    assert eval(text, namespace).config == module.config


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
    assert seen["anything"] == {"feats", "image"}


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
        (lpprop.Chain(lpprop.ClassDistribution(), lpprop.KLDiscrepancy()), (), set(), False),
        (lpprop.Chain(lpprop.OptimalPath()), ("attention",), set(), False),
        (lpprop.Chain(lpprop.JointBilateralUpsample()), ("image",), {"windows"}, True),
        (
            lpprop.Chain(lpprop.Fusion(lpprop.MaxVelocity(), lpprop.PatchPropagation())),
            ("attention", "feats"),
            set(),
            False,
        ),
        (lpprop.presets.optimal_path(), ("attention", "image"), {"windows"}, True),
        (lpprop.presets.max_velocity(), ("attention", "image"), {"windows"}, True),
        (lpprop.presets.kl(), ("image",), {"windows"}, True),
        (lpprop.presets.fusion(), ("attention", "image"), {"windows"}, True),
        (lpprop.presets.bilinear(), (), {"windows"}, True),
        (lpprop.presets.joint_bilateral(), ("image",), {"windows"}, True),
        (lpprop.presets.guided_filter(), ("image",), {"windows"}, True),
        (lpprop.presets.pamr(), ("image",), {"windows"}, True),
        (lpprop.presets.local_crf(), ("image",), {"windows"}, True),
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
    assert takes <= chain.takes.names
    assert set(needs) <= chain.takes.names
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


# --------------------------------------------------------------------------- attention


def attended(grid=GRID, heads=None, batch=2):
    """Attention between the patches of a grid."""
    patches = grid[0] * grid[1]
    shape = (batch, patches, patches) if heads is None else (batch, heads, patches, patches)
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).mul(4).softmax(-1)


def velocity_by_hand(logits, attention, **options):
    f = lpprop.class_distribution(logits)
    return lpprop.max_velocity(f, attention, **options).reshape(logits.shape)


def velocities(**options):
    return lpprop.Chain(lpprop.ClassDistribution(), lpprop.MaxVelocity(), **options)


def test_attention_that_is_given_is_used_as_it_is():
    logits, feats, _ = inputs()
    attention = attended()
    expected = velocity_by_hand(logits, attention)
    assert torch.equal(velocities()(logits, attention=attention), expected)
    # Feats beside it are not looked at, on whatever grid they are.
    assert torch.equal(velocities()(logits, attention=attention, feats=feats[..., 1:]), expected)


@pytest.mark.parametrize("grid", [GRID, (7, 3)])
def test_attention_is_built_from_the_feats_on_their_grid(grid):
    logits, feats, _ = inputs(grid=grid)
    attention = lpprop.attention_from_features(feats, 0.3)
    expected = velocity_by_hand(lpprop.bilinear_upsample(logits, GRID), attention)
    assert torch.equal(velocities(temperature=0.3)(logits, feats=feats), expected)
    default = lpprop.attention_from_features(feats)
    expected = velocity_by_hand(lpprop.bilinear_upsample(logits, GRID), default)
    assert torch.equal(velocities()(logits, feats=feats), expected)


@pytest.mark.parametrize("grid", [(8, 10), (12, 15)])
@pytest.mark.parametrize("heads", [None, 3])
def test_logits_are_resized_to_the_grid_of_finer_attention(grid, heads):
    logits, _, _ = inputs()
    attention = attended(grid, heads)
    one = attention if heads is None else lpprop.aggregate_attention([attention], grids=[grid])
    expected = velocity_by_hand(lpprop.bilinear_upsample(logits, grid), one)
    torch.testing.assert_close(velocities()(logits, attention=attention), expected)


def test_logits_are_resized_to_the_grid_of_coarser_attention():
    logits, _, _ = inputs(grid=(8, 10))
    attention = attended()
    expected = velocity_by_hand(lpprop.bilinear_upsample(logits, GRID), attention)
    assert torch.equal(velocities()(logits, attention=attention), expected)


def test_heads_are_averaged_once_for_all_steps(monkeypatch):
    logits, _, image = inputs()
    heads = attended(heads=3)
    mean = heads.double().mean(1)
    chain = lpprop.presets.fusion()
    expected = chain(logits, image=image, attention=mean.float())
    calls = []
    average = lpprop.inputs.attention.as_rows

    def counting(maps):
        calls.append(maps)
        return average(maps)

    monkeypatch.setattr("lpprop.compose.chain.as_rows", counting)
    got = chain(logits, image=image, attention=heads)
    # The heads are summed in another order.
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert len(calls) == 1


def test_scores_of_patches_in_a_row_are_put_back_on_their_grid():
    def flat(logits, *, feats, image, attention):
        return 2 * logits.flatten(2)

    def looks(logits, *, feats, image, attention):
        seen.append(logits.shape)
        return logits

    seen = []
    logits, _, _ = inputs()
    assert torch.equal(lpprop.Chain(flat)(logits), 2 * logits)
    assert torch.equal(lpprop.Chain(looks, flat, looks)(logits), 2 * logits)
    assert seen == [logits.shape] * 2


def test_scores_of_another_number_of_patches_are_refused():
    def fewer(logits, *, feats, image, attention):
        return logits.flatten(2)[..., 1:]

    logits, _, _ = inputs()
    with pytest.raises(lpprop.InputError, match=r"^fewer returned unusable scores: got shape"):
        lpprop.Chain(fewer)(logits)


def test_a_method_for_discrepancies_is_the_composition_of_its_steps():
    logits, feats, image = inputs()
    chain = lpprop.presets.max_velocity(temperature=0.5, nms=0.4, tau=0.2, radius=2)
    attention = lpprop.attention_from_features(feats, 0.5)
    f = lpprop.class_distribution(logits, nms=0.4, early_rejection=chain.steps[0].early_rejection)
    scores = lpprop.max_velocity(f, attention, tau=0.2).reshape(logits.shape)
    expected = lpprop.joint_bilateral_upsample(scores, image, radius=2)
    assert torch.equal(chain(logits, feats=feats, image=image), expected)


def test_nesting_steps_that_attend_changes_nothing():
    logits, feats, image = inputs()
    steps = lpprop.ClassDistribution(), lpprop.MaxVelocity(), lpprop.JointBilateralUpsample()
    for given, options in (
        ({"feats": feats}, {"temperature": 0.5}),
        ({"attention": attended()}, {}),
        ({"attention": attended((8, 10))}, {}),
        ({"attention": attended(heads=2)}, {}),
    ):
        flat = lpprop.Chain(*steps, **options)
        inner = lpprop.Chain(*steps[:2], **options)
        deep = lpprop.Chain(steps[0], lpprop.Chain(lpprop.Chain(steps[1], **options)))
        expected = flat(logits, image=image, **given)
        for nested in (lpprop.Chain(inner, steps[2]), lpprop.Chain(deep, steps[2])):
            assert nested.needs == flat.needs
            assert torch.equal(nested(logits, image=image, **given), expected)


def test_an_inner_chain_keeps_its_temperature_beside_any_other_step():
    """What a step computes does not depend on whether its neighbour attends too."""
    logits, feats, _ = inputs()
    inner = lpprop.Chain(lpprop.MaxVelocity(), temperature=0.3)
    alone = lpprop.Chain(lpprop.ClassDistribution(), inner)(logits, feats=feats)

    def keep(logits, *, feats, image, attention):
        kept.append(logits)
        return lpprop.class_distribution(logits)

    kept = []
    lpprop.Chain(lpprop.ClassDistribution(), inner, keep, lpprop.OptimalPath())(logits, feats=feats)
    assert torch.equal(kept[0], alone)


@pytest.mark.parametrize("nested", [False, True])
def test_feats_and_attention_of_different_grids_are_refused_before_any_step(nested):
    logits, feats, _ = inputs()
    count = Count()
    steps = lpprop.PatchPropagation(), lpprop.ClassDistribution(), lpprop.MaxVelocity()
    rest = (lpprop.Chain(steps[0]), lpprop.Chain(*steps[1:])) if nested else steps
    chain = lpprop.Chain(count, *rest)
    assert chain(logits, feats=feats, attention=attended()).shape == logits.shape
    calls = count.calls
    for grid in ((8, 10), (3, 5)):
        with pytest.raises(
            lpprop.InputError,
            match=f"^attention: got {grid[0] * grid[1]} patches, expected those of the feats' grid",
        ):
            chain(logits, feats=feats, attention=attended(grid))
    assert count.calls == calls


@pytest.mark.parametrize(
    "given",
    [
        {"feats": torch.rand(1, 2, 20, 20)},
        {"attention": torch.rand(1, 400, 400)},
        {"attention": torch.rand(1, 4, 400, 400)},
    ],
    ids=["feats", "attention", "heads"],
)
@pytest.mark.parametrize(
    "step", [lpprop.OptimalPath(), lpprop.MaxVelocity()], ids=["path", "speed"]
)
def test_attention_that_does_not_fit_is_refused_before_any_step(monkeypatch, given, step):
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 2**20)
    count = Count()
    chain = lpprop.Chain(count, lpprop.ClassDistribution(), step)
    with pytest.raises(lpprop.InputError, match="got 400 patches, whose 400 x 400 matrices need"):
        chain(torch.rand(1, 3, 20, 20), **given)
    assert count.calls == 0


def test_what_fits_is_done(monkeypatch):
    # The weights of the upsampling, 49 per pixel, are the most.
    monkeypatch.setattr("lpprop._core.memory.available_bytes", lambda device: 6 * 2**20)
    logits, feats, image = inputs()
    assert lpprop.presets.fusion()(logits, feats=feats, image=image).shape == (2, 3, *PIXELS)


# --------------------------------------------------------------------------- fusion


def test_a_fusion_adds_maps_of_equal_size():
    logits, feats, _ = inputs()
    f = lpprop.class_distribution(logits)
    A = lpprop.attention_from_features(feats, 0.3)
    maps = [
        lpprop.optimal_path(f, A),
        lpprop.max_velocity(f, A, tau=0.2),
        lpprop.kl_discrepancy(f),
    ]
    expected = sum(x / x.abs().amax((1, 2), keepdim=True) for x in maps).reshape(logits.shape)
    fusion = lpprop.Fusion(
        lpprop.OptimalPath(), lpprop.MaxVelocity(tau=0.2), lpprop.Chain(lpprop.KLDiscrepancy())
    )
    chain = lpprop.Chain(lpprop.ClassDistribution(), fusion, temperature=0.3)
    torch.testing.assert_close(chain(logits, feats=feats), expected, rtol=1e-6, atol=1e-6)


def test_a_fusion_of_nothing_is_nothing():
    def nothing(logits, *, feats, image, attention):
        return torch.zeros_like(logits)

    logits, _, _ = inputs()
    assert torch.equal(lpprop.Fusion(nothing, nothing)(logits), torch.zeros_like(logits))
    alone = lpprop.Fusion(nothing, double)(logits)
    assert torch.equal(alone, logits / logits.amax((1, 2, 3), keepdim=True))


def test_a_fusion_takes_the_attention_of_the_chain_around_it():
    logits, feats, _ = inputs()
    fusion = lpprop.Fusion(lpprop.OptimalPath(), lpprop.MaxVelocity())
    f = lpprop.class_distribution(logits).reshape(logits.shape)
    attention = lpprop.attention_from_features(feats, 0.3)
    expected = fusion(f, attention=attention)
    assert torch.equal(lpprop.Chain(fusion, temperature=0.3)(f, feats=feats), expected)
    assert fusion.needs == ("attention",)
    with pytest.raises(lpprop.InputError, match="attention: got None"):
        fusion(f, feats=feats)


def test_patch_steps_inside_a_fusion_are_fitted_to_the_image():
    logits, feats, image = inputs()
    step = lpprop.PatchPropagation(k=5)
    fusion = lpprop.Fusion(step, double)
    with pytest.warns(UserWarning, match="as if patches had 8"):
        got = lpprop.refine(logits, feats, image[..., :32, :40], method=fusion)
    fitted = lpprop.Fusion(lpprop.PatchPropagation(k=5, patch_size=8.0), double)
    expected = lpprop.bilinear_upsample(fitted(logits, feats=feats), (32, 40))
    assert torch.equal(got, expected)


def test_a_fusion_shows_its_steps():
    text = repr(lpprop.presets.fusion(temperature=0.25))
    assert "temperature=0.25" in text
    assert text.index("OptimalPath") < text.index("MaxVelocity") < text.index("JointBilateral")


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
        r"Refine whole images with this method\. In a chain of your own, put BilinearUpsample\(\) "
        r"before a step on pixels, or give your step a keyword windows=\.$",
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


def test_joint_bilateral_upsampling_merges_windows():
    windows, logits, _, image = windowed()
    crops = lpprop.joint_bilateral_upsample(logits, windows.split(image))
    expected = lpprop.propagate_pixels(windows.merge(crops), image)
    chain = lpprop.Chain(lpprop.JointBilateralUpsample(), lpprop.PixelPropagation())
    assert torch.equal(chain(logits, image=image, windows=windows), expected)


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
        lpprop.presets.lposs_plus(feats_from="dinov2"),
        lpprop.presets.fusion(temperature=0.5, tau=0.2),
        lpprop.OptimalPath(complement=True),
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
