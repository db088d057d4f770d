"""Rasters in tiles: any tiling gives what no tiling gives, and what the whole image gives."""

import json
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lpprop
from lpprop import InputError
from lpprop.tiled import refine
from lpprop.tiled.plan import make_plan
from lpprop.tiled.tiles import cut

pytest.importorskip("llvmlite")

H, W, C = 27, 34, 3
RANDOM = np.random.default_rng(0)
IMAGE = (
    np.kron(RANDOM.integers(40, 200, (3, 9, 17)), np.ones((1, 3, 2)))
    + RANDOM.integers(-20, 20, (3, H, W))
).astype(np.uint8)
LOGITS = RANDOM.normal(size=(C, H, W)).astype(np.float32)
COARSE = RANDOM.normal(size=(C, 8, 10)).astype(np.float32)
PIXELS = {"tau": 0.1, "r": 5, "max_iter": 3}
FIXED = lpprop.PixelPropagation(**PIXELS, solver="chebyshev", backend="llvm")


def average(scores):
    """A step of one's own that says how far it reaches."""
    return torch.nn.functional.avg_pool2d(scores, 3, 1, 1, count_include_pad=False)


average.reach = 1

# Each method that claims to work on tiles, and by how much tiles may differ from the whole image in
# float64; 0 stands for the same bits as the whole image in float32. Weights are exponentials, whose
# exponents are rounded: up to 60 of them in PAMR, 6e-8 each, and colours of 1 over tau = 0.1 in the
# pixel step, whose solution is up to 1 / (1 - alpha) = 20 times the scores, which are up to 4.
METHODS = {
    "pixels": (FIXED, LOGITS, 0),
    "bilinear, then pixels": (lpprop.Chain(lpprop.BilinearUpsample(), FIXED), COARSE, 5e-5),
    "bilinear": ("bilinear", COARSE, 1e-6),
    "joint bilateral": (lpprop.JointBilateralUpsample(radius=2), COARSE, 1e-5),
    "PAMR": (lpprop.PAMR(iterations=2, dilations=(1, 3)), LOGITS, 1e-5),
    "PAMR, wider than a tile": (lpprop.PAMR(iterations=3, dilations=(9,)), LOGITS, 1e-5),
    "guided filter": (lpprop.GuidedFilter(radius=3), LOGITS, 1e-6),
    "local CRF": (lpprop.LocalCRF(scale=2.0, iterations=2, r=5), LOGITS, 1e-5),
    "a step of one's own": (lpprop.Chain(average, lpprop.GuidedFilter(radius=1)), LOGITS, 1e-6),
    "two steps": (lpprop.Chain(lpprop.PAMR(iterations=1, dilations=(2,)), FIXED), LOGITS, 5e-5),
}
# Those whose operations at a pixel are the same in every tile.
SAME_BITS = ("pixels", "bilinear, then pixels", "bilinear", "joint bilateral")


def tiled(folder, logits=LOGITS, image=IMAGE, **options):
    """Refine, and return labels and scores."""
    out, scores = folder / "labels.npy", folder / "scores.npy"
    given = {"progress": False, "overwrite": True, "scores": scores, **options}
    refine(logits, image, out, **given)
    return np.load(out), np.load(scores)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=5)
@given(data=st.data())
def test_any_tiling_gives_the_result_of_no_tiling(tmp_path_factory, name, data):
    method, logits, tolerance = METHODS[name]
    folder = tmp_path_factory.getbasetemp() / "tiles"
    folder.mkdir(exist_ok=True)
    labels, scores = tiled(folder, logits, method=method, tile=data.draw(st.integers(5, 34)))
    whole_labels, whole = tiled(folder, logits, method=method, tile=34)
    dtype = torch.float64 if tolerance else torch.float32
    image = torch.from_numpy(IMAGE)[None].to(dtype) / 255
    plain = lpprop.refine(torch.from_numpy(logits[None]).to(dtype), image=image, method=method)
    plain = plain[0].numpy()
    np.testing.assert_allclose(scores, plain, rtol=0, atol=tolerance)
    if name in SAME_BITS:
        assert np.array_equal(scores, whole)
        assert np.array_equal(labels, whole_labels)
    if tolerance == 0:
        assert np.array_equal(scores, plain)
    assert np.array_equal(labels, scores.argmax(0))


@pytest.mark.parametrize("by", ["mean", "vote", "probability"])
@settings(max_examples=5)
@given(data=st.data())
def test_regions_vote_across_tiles(tmp_path_factory, by, data):
    folder = tmp_path_factory.getbasetemp() / "votes"
    folder.mkdir(exist_ok=True)
    coarse = RANDOM.integers(-1, 6, (4, 5)) * 10**9  # numbers far apart, negative ones none
    regions = np.kron(coarse, np.ones((7, 7), np.int64))[:H, :W]
    step = lpprop.RegionVote(
        by=by,
        strength=data.draw(st.sampled_from([0.3, 1.0])),
        purity=data.draw(st.sampled_from([0.0, 0.4])),
    )
    method = lpprop.Chain(lpprop.GuidedFilter(radius=1), step)
    tile = data.draw(st.integers(5, 40))
    labels, scores = tiled(folder, regions=regions, method=method, tile=tile)
    image = torch.from_numpy(IMAGE)[None] / 255
    plain = lpprop.refine(LOGITS[None], image=image, regions=regions[None], method=method)
    np.testing.assert_allclose(scores, plain[0], rtol=0, atol=1e-6)
    assert np.array_equal(labels, scores.argmax(0))


def test_the_cores_make_up_the_image_and_windows_hold_the_reach():
    for size, side, reach in product([(1, 1), (7, 20), (16, 16)], [1, 3, 16, 50], [0, 2, 30]):
        count = np.zeros(size, int)
        for core, window in cut(size, side, reach):
            count[core.slices] += 1
            for near, far in ((window.top, core.top), (window.left, core.left)):
                assert near == max(far - reach, 0)
            assert window.bottom == min(core.bottom + reach, size[0])
            assert window.right == min(core.right + reach, size[1])
        assert (count == 1).all()


# --------------------------------------------------------------------------- pixels without data

GAPS = np.zeros((H, W), bool)
GAPS[5:13, 20:30] = GAPS[0, :5] = GAPS[20, 3] = True


@pytest.mark.parametrize("tile", [11, 40])
def test_pixels_without_data_have_no_influence(tmp_path, tile):
    """Whatever stands there, the others get the same bits, and they stay without."""
    results = []
    for seed in range(2):
        random, logits = np.random.default_rng(seed), LOGITS.copy()
        logits[:, GAPS] = 1e6 * random.normal(size=(C, GAPS.sum()))
        image = np.where(GAPS, 0, np.maximum(IMAGE, 1)).astype(np.uint8)
        results.append(tiled(tmp_path, logits, image, nodata=0, tile=tile, **PIXELS))
    (labels, scores), (_, others) = results
    assert np.array_equal(scores, others, equal_nan=True)
    assert (labels[GAPS] == 255).all()
    assert np.isnan(scores[:, GAPS]).all()
    assert np.isfinite(scores[:, ~GAPS]).all()
    assert np.array_equal(labels[~GAPS], scores[:, ~GAPS].argmax(0))


def test_pixels_without_data_are_as_if_they_were_not_there(tmp_path):
    """A graph of the other pixels alone, dense and in float64."""
    import reference

    image = np.where(GAPS, 0, np.maximum(IMAGE, 1)).astype(np.uint8)
    options = {"tau": 0.1, "r": 5, "max_iter": 60, "alpha": 0.9, "tol": 0.0}
    _, scores = tiled(tmp_path, image=image, nodata=0, tile=20, **options)
    S = reference.pixel_graph(reference.lab_features(image / 255), tau=0.1, r=5)
    S = S[~GAPS.ravel()][:, ~GAPS.ravel()]
    degree = S.sum(0)
    system = np.eye(len(S)) - 0.9 * S / np.sqrt(degree[:, None] * degree[None])
    exact = np.linalg.solve(system, LOGITS[:, ~GAPS].T.astype(float))
    np.testing.assert_allclose(scores[:, ~GAPS].T, exact, atol=5e-5)


# --------------------------------------------------------------------------- patches

PATCHES = {"k": 6, "gamma": 3.0, "patch_size": 4}


def test_patches_of_a_part_and_of_those_around_it_form_the_graph(tmp_path, monkeypatch):
    """Each part of 4 x 4 patches is refined with 4 patches around it; the whole grid as one."""
    from lpprop.tiled import job

    feats = RANDOM.normal(size=(8, 8, 10)).astype(np.float32)
    image = np.zeros((3, 32, 40), np.uint8)
    method = lpprop.Chain(lpprop.PatchPropagation(**PATCHES), lpprop.BilinearUpsample())

    def run():
        return tiled(tmp_path, COARSE, image, feats=feats, method=method)[1]

    plain = lpprop.refine(COARSE[None], feats[None], np.zeros((1, 3, 32, 40)), method=method)
    np.testing.assert_allclose(run(), plain[0], atol=1e-5)
    monkeypatch.setattr(job, "_PATCH_TILE", 4)
    step = lpprop.PatchPropagation(**PATCHES)
    expected = np.zeros_like(COARSE)
    for y, x in product(range(0, 8, 4), range(0, 10, 4)):
        rows, columns = slice(max(y - 4, 0), y + 8), slice(max(x - 4, 0), x + 8)
        part = step(*(torch.from_numpy(a[None, :, rows, columns]) for a in (COARSE,)),
                    feats=torch.from_numpy(feats[None, :, rows, columns]))[0]  # fmt: skip
        inner = part[:, y - rows.start :, x - columns.start :][:, :4, :4]
        expected[:, y : y + 4, x : x + 4] = inner
    raised = lpprop.bilinear_upsample(torch.from_numpy(expected)[None], (32, 40))[0]
    np.testing.assert_allclose(run(), raised, atol=1e-5)


# --------------------------------------------------------------------------- what is refused

REFUSED = {
    "a step that asks all pixels": (
        {"method": lpprop.PixelPropagation()}, "method: got PixelPropagation", "solver='chebyshev'"
    ),
    "prune": ({"prune": True}, "method: got PixelPropagation", "prune=False"),
    "attention": ({"method": "max_velocity"}, "method: got ClassDistribution", "pass its result"),
    "a scale from the image": ({"method": "local_crf"}, "method: got LocalCRF", "scale="),
    "fusion": (
        {"method": lpprop.Fusion(lpprop.PAMR(), lpprop.GuidedFilter())}, "method: got Fusion", ""
    ),
    "a step of one's own without a reach": ({"method": torch.nn.Softmax(1)}, "method: got", ""),
    "no feats": ({"method": "lposs"}, "feats: got None", "Pass feats="),
    "feats for nothing": ({"feats": LOGITS, "method": "pamr"}, "feats: got an input that", ""),
    "no regions": ({"method": "region_vote"}, "regions: got None", "Pass regions="),
    "regions that are no numbers": (
        {"method": "region_vote", "regions": LOGITS[:1]}, "regions: got numbers of float32", ""
    ),
    "regions of another size": (
        {"method": "region_vote", "regions": np.zeros((3, 3), int)}, "regions: got 3 x 3", ""
    ),
    "gaps": ({"method": "pamr", "nodata": 0}, "image: got pixels without data, for PAMR", ""),
    "a tile of nothing": ({"tile": 0}, "tile: got 0", ""),
    "bands": ({"bands": (1, 2, 4)}, "image: got 3 bands, and bands=(1, 2, 4)", ""),
    "bands that are no whole numbers": ({"bands": (1, 2.5, 3)}, "bands: got 2.5", ""),
    "no bands": ({"bands": None}, "bands: got None, expected three", ""),
    "a nodata of letters": ({"nodata": "black"}, "nodata: got 'black'", ""),
    "complex numbers": ({"logits": LOGITS.astype("c8")}, "logits: got shape (3, 27, 34) of c", ""),
    "two bands": ({"bands": (1, 2)}, "bands: got (1, 2)", "red, green and blue"),
    "white": ({"white": 100.0}, "image: got values from", "white="),
    "white of no range": ({"white": 0.0}, "white: got 0", ""),
    "an unknown kind": ({"out": "labels.jpg"}, "out: got", "labels.tif"),
    "no folder": ({"out": "nowhere/labels.npy"}, "out: got", "Make it"),
    "an unknown option": ({"radius": 3}, "radius: got an option that auto does not have", ""),
    "scores that are not finite": (
        {"logits": np.where(GAPS, np.nan, LOGITS)}, "logits: got values that are not finite", ""
    ),
    "scores of another shape": ({"logits": np.zeros((3, 9, 9), "f4")}, "logits: got 9 x 9", ""),
    "two axes too many": ({"logits": LOGITS[None]}, "logits: got shape (1, 3, 27, 34)", ""),
    "no array": ({"logits": 3}, "logits: got int", ""),
    "an image of long integers": ({"image": IMAGE.astype(np.int32)}, "white: got None", "white="),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_refuses_in_words(tmp_path, name):
    given, start, advice = REFUSED[name]
    given = {"logits": LOGITS, "image": IMAGE, "progress": False, **given}
    given["out"] = tmp_path / given.get("out", "labels.npy")
    with pytest.raises(InputError) as refused:
        refine(**given)
    assert str(refused.value).startswith(start)
    assert advice in str(refused.value)
    assert not given["out"].exists()


def test_presets_get_the_fixed_polynomial_and_modules_keep_theirs():
    plan = make_plan("lposs+", {"max_iter": 4, "r": 3}, has_feats=True)
    (step,) = plan.pixels
    assert (step.solver, step.backend, plan.reach) == ("chebyshev", "llvm", 4)
    assert make_plan("auto", {}, has_feats=False).patches is None
    assert make_plan("auto", {}, has_feats=True).patches is not None
    with pytest.raises(InputError, match="method: got PixelPropagation"):
        make_plan(lpprop.presets.lposs_plus(), {}, has_feats=True)


def test_many_classes_need_wider_labels(tmp_path):
    logits = np.zeros((300, 6, 5), np.float32)
    logits[299, 2, 2] = 1
    refine(logits, np.zeros((6, 5, 3)), tmp_path / "a.npy", method="bilinear", progress=False)
    labels = np.load(tmp_path / "a.npy")
    assert labels.dtype == np.uint16
    assert labels[2, 2] == 299
    assert labels.sum() == 299


def test_the_record_says_what_was_done(tmp_path):
    tiled(tmp_path, tile=20, **PIXELS)
    record = json.loads((tmp_path / "labels.npy.json").read_text())
    assert record["tile"] == 20
    assert "solver='chebyshev'" in record["method"][1]
    assert record["inputs"].keys() == {"image", "logits"}
