"""Regions that are kept on disk: told apart, shared among processes, mended."""

import functools
import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import lpprop
from lpprop._core.errors import InputError, InputWarning
from lpprop.regions import CachedProposer, slic

IMAGES = torch.rand(2, 3, 20, 30, generator=torch.Generator().manual_seed(0))
calls = []


def count(image, kind="map"):
    """Propose regions of several kinds, and note that it was asked."""
    calls.append(len(image))
    bright = image.mean(1)
    if kind == "map":
        return (bright * 9).long() - 2
    masks = torch.stack([bright > 0.5, bright > 0.7], 1)
    if kind == "none":
        return list(masks[:, :0])
    return list(masks if kind == "masks" else masks * bright[:, None].to(getattr(torch, kind)))


class Threshold(torch.nn.Module):
    def __init__(self, level):
        super().__init__()
        self.level = torch.nn.Parameter(torch.tensor(level))

    def forward(self, image):
        return (image.mean(1) > self.level).long()


@pytest.fixture(autouse=True)
def _no_calls():
    calls.clear()


def same(a, b):
    return len(a) == len(b) and all(
        torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("kind", ["map", "masks", "none", "float32", "float64", "bfloat16"])
def test_what_is_read_is_what_was_proposed(tmp_path, kind):
    proposer = functools.partial(count, kind=kind)
    cached = CachedProposer(proposer, tmp_path / "made" / "here")
    expected = proposer(IMAGES)
    if kind == "bfloat16":  # which NumPy has not
        expected = [masks.float() for masks in expected]
    calls.clear()
    first = cached(IMAGES)
    assert calls == [1, 1]  # image by image
    again = pickle.loads(pickle.dumps(cached))(IMAGES)
    assert calls == [1, 1]
    assert isinstance(first, torch.Tensor) == (kind == "map")
    assert same(first, expected)
    assert same(again, expected)
    assert same(cached(IMAGES[1:]), expected[1:])
    assert len(list((tmp_path / "made" / "here").iterdir())) == 2


def test_images_and_proposers_are_told_apart(tmp_path):
    proposers = [
        count, functools.partial(count, kind="masks"), Threshold(0.5), Threshold(0.6), slic,
        functools.partial(slic, n_segments=10), functools.partial(slic, n_segments=11),
        "felzenszwalb",
    ]  # fmt: skip
    cached = [CachedProposer(proposer, tmp_path) for proposer in proposers]
    for image in (IMAGES[:1], IMAGES[:1].flip(3), IMAGES[:1].mT, IMAGES[:1].double()):
        for one in cached:
            one(image)
    assert len(list(tmp_path.iterdir())) == 4 * len(proposers)
    assert CachedProposer("slic", tmp_path).fingerprint() == cached[4].fingerprint()
    assert not same(cached[2](IMAGES), cached[3](IMAGES))


def test_refine_takes_it_as_it_takes_the_proposer(tmp_path):
    logits = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    given = {"image": IMAGES[:1], "method": "region_vote"}
    expected = lpprop.refine(logits, regions=count, **given)
    for _ in range(2):
        kept = lpprop.refine(logits, regions=CachedProposer(count, tmp_path), **given)
        assert torch.equal(kept, expected)
    assert calls == [1, 1]


@pytest.mark.parametrize("spoil", [lambda data: data[:-30], lambda data: b"", lambda data: b"x"])
def test_a_damaged_file_is_made_again(tmp_path, spoil):
    cached = CachedProposer(count, tmp_path)
    expected = cached(IMAGES[:1])
    (path,) = tmp_path.iterdir()
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.warns(InputWarning, match=r"\.npz: cannot be read .* proposed again"):
        assert torch.equal(cached(IMAGES[:1]), expected)
    assert torch.equal(cached(IMAGES[:1]), expected)
    assert calls == [1, 1]


def test_several_may_work_in_a_folder_at_once(tmp_path):
    """In threads, whose files are locked against each other as those of processes are."""
    cached = CachedProposer("slic", tmp_path)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(cached, [IMAGES[:1]] * 12))
    assert all(torch.equal(regions, slic(IMAGES[:1])) for regions in found)
    assert [path.suffix for path in tmp_path.iterdir()] == [".npz"]


def far_below_zero(image):
    return torch.where(image.mean(1) > 0.5, 3, -(2**63))


def test_the_least_number_stays_no_region(tmp_path):
    """Its absolute value does not fit into 64 bits."""
    cached = CachedProposer(far_below_zero, tmp_path)
    assert torch.equal(cached(IMAGES), far_below_zero(IMAGES))
    assert torch.equal(cached(IMAGES), far_below_zero(IMAGES))


def of_several_kinds(image):
    bright = image.mean(1) > 0.5
    return bright.long() if torch.equal(image, IMAGES[:1]) else [bright]


def test_no_image_of_a_batch_is_lost(tmp_path):
    cached = CachedProposer(of_several_kinds, tmp_path)
    with pytest.raises(InputError, match=r"^proposer: got integer maps for 1 of 2 images"):
        cached(IMAGES)
    assert len(cached(IMAGES[:1])) == len(cached(IMAGES[1:])) == 1


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"^folder: got .*file, which is a file"):
        CachedProposer("slic", tmp_path / "file")


class Nameless:
    def __call__(self, image):
        return image


def test_options_that_are_models_are_told_apart_by_their_weights(tmp_path):
    given = [functools.partial(Threshold.forward, Threshold(x)) for x in (0.5, 0.6)]
    one, other = (CachedProposer(proposer, tmp_path).fingerprint() for proposer in given)
    assert one["args"][0]["weights"] != other["args"][0]["weights"]


class Method:
    def __init__(self, level):
        self.level = level

    def __repr__(self):
        return f"Method({self.level})"

    def propose(self, image):
        return (image.mean(1) > self.level).long()


def test_bound_methods_are_told_apart_by_their_objects(tmp_path):
    prints = [CachedProposer(Method(x).propose, tmp_path).fingerprint() for x in (0.1, 0.2)]
    assert prints == [{"object": f"Method({x})", "method": "propose"} for x in (0.1, 0.2)]


@pytest.mark.parametrize(
    ("proposer", "held"),
    [
        (lambda image: image[:, 0] > 0, r"proposer: got the function .*<lambda>"),
        (functools.partial(lambda image, x: image, x=1), r"proposer: got the function .*<lambda>"),
        (Nameless(), r"proposer: got <.*Nameless object at \w+>, whose repr"),
        (functools.partial(count, kind=torch.zeros(9)), r"proposer: got tensor\("),
        (functools.partial(count, kind=[Nameless()]), r"proposer: got \["),
        (lambda image, scores: scores, "proposer: got <lambda>, a function of image and scores"),
        ("slick", "regions: got 'slick'"),
        (lambda: 1, "regions: got <lambda>"),
    ],
)
def test_what_cannot_be_kept(tmp_path, proposer, held):
    with pytest.raises(InputError, match=f"^{held}"):
        CachedProposer(proposer, tmp_path)


def test_wrong_regions_are_not_kept(tmp_path):
    with pytest.raises(InputError, match=r"^regions of the proposer one_too_many: got"):
        CachedProposer(one_too_many, tmp_path)(IMAGES)
    assert list(tmp_path.iterdir()) == []


def one_too_many(image):
    return torch.zeros(len(image) + 1, 4, 4).long()
