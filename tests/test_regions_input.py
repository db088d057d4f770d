"""Regions as an input of `refine`, `compare` and chains: forms, proposers, windows, spans."""

import warnings

import numpy as np
import pytest
import torch

import lpprop
from lpprop import InputWarning
from lpprop.comparison.inputs import default_presets
from lpprop.inputs import superpixels
from lpprop.inputs.proposals import PROPOSERS, Proposal

LOGITS = torch.rand(1, 4, 3, 4, generator=torch.Generator().manual_seed(0))
FEATS = torch.rand(1, 6, 3, 4, generator=torch.Generator().manual_seed(1))
IMAGE = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(2))
MAPS = (4 * IMAGE[:, 0]).long()
MASKS = torch.stack([MAPS[0] == 0, MAPS[0] > 1])
FULL = lpprop.bilinear_upsample(LOGITS, (48, 64))


def voted(regions, **rest):
    return lpprop.refine(LOGITS, image=IMAGE, method="region_vote", regions=regions, **rest)


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x, lambda x: x[0], lambda x: x.int(), lambda x: x.numpy(), lambda x: [x[0]],
        lambda x: x[0].numpy().astype(np.uint16), lambda x: x.to(torch.uint8),
        lambda x: x.numpy().astype(">i4"), lambda x: [x[0].numpy()],
    ],
)  # fmt: skip
def test_forms_of_a_map(form):
    assert torch.equal(voted(form(MAPS)), lpprop.region_vote(FULL, MAPS, by="vote"))


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x, lambda x: x[None], lambda x: [x], lambda x: x.numpy(), lambda x: (x.numpy(),),
        lambda x: x.float(), lambda x: x.numpy()[None].astype(float),
    ],
)  # fmt: skip
def test_forms_of_masks(form):
    assert torch.equal(voted(form(MASKS)), lpprop.region_vote(FULL, [MASKS], by="vote"))


def test_images_with_different_numbers_of_masks():
    logits, image = LOGITS.repeat(2, 1, 1, 1), IMAGE.repeat(2, 1, 1, 1)
    masks = [MASKS, MASKS[:1].numpy()]
    got = lpprop.refine(logits, image=image, method="region_vote", regions=masks)
    assert torch.equal(got, torch.cat([voted(MASKS), voted(MASKS[:1])]))


@pytest.mark.parametrize(
    "form", [lambda x: x, lambda x: x.numpy(), lambda x: x.tolist(), lambda x: list(x.numpy())]
)
def test_scores_of_masks(form):
    scores = torch.tensor([0.25, 1.0])
    expected = lpprop.region_vote(FULL, [MASKS], region_scores=scores)
    got = voted(MASKS, region_scores=form(scores), by="mean")
    torch.testing.assert_close(got, expected)


def test_lposs_regions_is_its_three_steps():
    got = lpprop.refine(
        LOGITS, FEATS, IMAGE, regions=MAPS, method="lposs+regions", k=5, overlap="largest"
    )
    patches = lpprop.propagate_patches(LOGITS, FEATS, k=5)
    pixels = lpprop.bilinear_upsample(patches, (48, 64))
    assert torch.equal(got, lpprop.region_vote(pixels, MAPS, by="vote"))


def test_a_class_that_is_left_out_has_no_vote():
    logits = torch.cat([LOGITS[:, :2], torch.full((1, 1, 3, 4), -torch.inf), LOGITS[:, 2:]], 1)
    got = lpprop.refine(logits, image=IMAGE, regions=MAPS, method="region_vote")
    assert bool(torch.isneginf(got[:, 2]).all())
    assert torch.equal(got[:, [0, 1, 3, 4]], voted(MAPS))


def test_windows_share_the_regions_of_their_image():
    windows = lpprop.SlidingWindows((48, 64), window=32, stride=16)
    logits = torch.rand(len(windows), 4, 2, 2)
    got = lpprop.refine(logits, image=IMAGE, windows=windows, regions=MAPS, method="region_vote")
    assert torch.equal(got, lpprop.region_vote(windows.merge(logits), MAPS, by="vote"))


@pytest.mark.parametrize("span", [(42, 60), (51, 72)])
@pytest.mark.parametrize(
    "regions", [MAPS, [MASKS], MAPS.repeat_interleave(2, 1).repeat_interleave(2, 2)]
)
def test_regions_are_cut_or_extended_to_the_span(span, regions):
    got = voted(regions, span=span, by="mean")
    rows, columns = (torch.arange(side) for side in span)
    place = rows.clamp_max(47)[:, None], columns.clamp_max(63)
    finer = 1 if isinstance(regions, list) else regions.shape[1] // 48
    own = regions if isinstance(regions, list) else regions[:, ::finer, ::finer]
    own = [x[:, *place] for x in own] if isinstance(own, list) else own[:, *place]
    expected = lpprop.region_vote(lpprop.bilinear_upsample(LOGITS, span), own)
    rows, columns = (torch.arange(side) for side in (48, 64))
    place = rows.clamp_max(span[0] - 1)[:, None], columns.clamp_max(span[1] - 1)
    torch.testing.assert_close(got, expected[:, :, *place])


# --------------------------------------------------------------------------- proposers


class Found:
    """A proposer that counts its calls, and notes what it gets."""

    def __init__(self, regions):
        self.regions, self.seen = regions, []

    def __call__(self, image):
        self.seen.append(image)
        return self.regions


class FoundByScores(Found):
    def __call__(self, image, scores):
        self.seen.append((image, scores))
        return self.regions


@pytest.mark.parametrize("regions", [MAPS, MAPS.numpy(), [MASKS], MASKS.numpy()])
def test_a_proposer_is_asked_for_the_image(regions):
    found = Found(regions)
    assert torch.equal(voted(found), voted(regions))
    assert len(found.seen) == 1
    assert torch.equal(found.seen[0], IMAGE)


def test_a_proposer_may_write_to_its_image():
    image = torch.rand(1, 3, 8, 8)
    before = image.clone()
    logits = torch.rand(1, 2, 8, 8)
    lpprop.refine(logits, image=image, method="region_vote",
                  regions=lambda image: image.mul_(3).mean(1).long())  # fmt: skip
    assert torch.equal(image, before)


def test_a_proposer_that_asks_for_scores_gets_those_of_its_step():
    found = FoundByScores(MAPS)
    got = lpprop.refine(LOGITS, FEATS, IMAGE, regions=found, method="lposs+regions", k=5)
    patches = lpprop.propagate_patches(LOGITS, FEATS, k=5)
    ((image, scores),) = found.seen
    assert torch.equal(image, IMAGE)
    assert torch.equal(scores, lpprop.bilinear_upsample(patches, (48, 64)))
    assert torch.equal(got, lpprop.region_vote(scores, MAPS, by="vote"))


def test_a_comparison_asks_once_for_all_methods():
    found, by_scores = Found(MAPS), FoundByScores(MAPS)
    methods = {
        "vote": "region_vote", "mean": lpprop.presets.region_vote(by="mean"), "plain": "bilinear"
    }  # fmt: skip
    comparison = lpprop.compare(LOGITS, image=IMAGE, regions=found, methods=methods, repeats=1)
    assert len(found.seen) == 1
    again = lpprop.compare(LOGITS, image=IMAGE, regions=by_scores, methods=methods, repeats=1)
    assert len(by_scores.seen) > 1
    for name, method in methods.items():
        rest = {} if name == "plain" else {"regions": MAPS}
        expected = lpprop.refine(LOGITS, image=IMAGE, method=method, **rest)[0].argmax(0).numpy()
        np.testing.assert_array_equal(comparison.labels[name], expected)
        np.testing.assert_array_equal(again.labels[name], expected)


@pytest.mark.parametrize("form", [lambda maps: maps, lambda maps: [torch.stack([maps[0] == 1])]])
def test_a_comparison_shows_regions_of_a_span_where_they_are(form):
    def thirds(image):
        rows = torch.arange(image.shape[-2]) // 30
        return form(rows[None, :, None].expand(1, -1, image.shape[-1]))

    height = IMAGE.shape[-2]
    comparison = lpprop.compare(
        LOGITS, image=IMAGE, regions=thirds, span=(height + 20, 66), methods=["region_vote"],
        repeats=1,
    )  # fmt: skip
    assert comparison.regions.shape == tuple(IMAGE.shape[-2:])
    assert np.flatnonzero(np.diff(comparison.regions[:, 0])).tolist() == [29]


def test_several_settings_of_windows_ask_once():
    found = Found(MAPS)
    settings = [lpprop.SlidingWindows((48, 64), side, side) for side in (32, 48)]
    logits = [torch.rand(len(setting), 4, 2, 2) for setting in settings]
    each = [
        lpprop.refine(x, image=IMAGE, windows=setting, regions=MAPS, method="region_vote")
        for x, setting in zip(logits, settings, strict=True)
    ]
    got = lpprop.refine(logits, None, IMAGE, windows=settings, regions=found, method="region_vote")
    torch.testing.assert_close(got, sum(each) / 2)
    assert len(found.seen) == 1


def test_a_proposer_sees_the_image_of_the_span():
    found = Found(MAPS)
    voted(found, span=(50, 66))
    assert found.seen[0].shape == (1, 3, 50, 66)


def test_nobody_is_asked_before_the_call_is_checked():
    found = Found(MAPS)
    for wrong in ({"method": "pamr"}, {"method": "lposs+regions"}, {"image": 2 * IMAGE}):
        with pytest.raises(lpprop.InputError):
            lpprop.refine(LOGITS, **{"image": IMAGE, "regions": found} | wrong)
    assert not found.seen


def test_a_step_by_itself_asks_too():
    found = Found(MAPS)
    step = lpprop.RegionVote(by="vote")
    assert torch.equal(step(FULL, image=IMAGE, regions=found), voted(MAPS))
    chain = lpprop.Chain(lpprop.BilinearUpsample(), step)
    assert torch.equal(chain(LOGITS, image=IMAGE, regions=found), voted(MAPS))
    assert len(found.seen) == 2


@pytest.mark.parametrize("name", PROPOSERS)
def test_names_stand_for_the_functions_of_superpixels(name):
    pytest.importorskip("skimage")
    assert Proposal(name).proposer is getattr(superpixels, name)
    assert torch.equal(voted(name), voted(getattr(superpixels, name)(IMAGE)))


def test_a_comparison_without_regions_leaves_out_what_needs_them():
    names, given = {"region_vote", "lposs+regions"}, ["feats", "image"]
    assert names <= {row.name for row in default_presets([*given, "regions"])}
    assert not names & {row.name for row in default_presets(given)}
    asked = lpprop.compare(LOGITS, image=IMAGE, methods=["bilinear", "region_vote"], repeats=1)
    assert [row.skipped.partition(":")[0] for row in asked.rows] == ["", "regions"]


def test_regions_of_a_crop_are_told_to_be_stretched():
    logits, image = torch.rand(1, 2, 6, 9), torch.rand(1, 3, 96, 144)

    def vote(*size):
        regions = torch.zeros(size, dtype=torch.long)
        return lpprop.refine(logits, image=image, regions=regions, method="region_vote")

    with pytest.warns(InputWarning, match="regions: got 90 x 130 pixels for an image of 96 x 144"):
        vote(90, 130)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in ((96, 144), (48, 72), (51, 77), (192, 288), (193, 289)):
            vote(*size)
