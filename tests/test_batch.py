"""Batches against single calls: the same bits whatever is in the batch, and errors by item."""

import io
import multiprocessing
import pickle
import random

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from fake_device import fake_device, why_not
from lpprop import InputError, SlidingWindows
from lpprop.batch import Refine

SIZES = [(48, 64), (64, 48), (48, 64), (32, 80), (48, 48)]


def make_item(number, size):
    rng = np.random.default_rng(number)
    h, w = size[0] // 16, size[1] // 16
    return {
        "logits": rng.standard_normal((4, h, w)).astype(np.float32),
        "feats": rng.standard_normal((8, h, w)).astype(np.float32),
        "image": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        "regions": rng.integers(-1, 5, size),
        "depth": rng.random((1, *size)).astype(np.float32),
        "name": f"n{number}",
    }


ITEMS = [make_item(*pair) for pair in enumerate(SIZES)]


def columns(items, names=None):
    return {name: [item[name] for item in items] for name in names or items[0]}


def as_objects(column):
    array = np.empty(len(column), dtype=object)
    array[:] = column
    return array


def subtract_depth(logits, image, depth):
    return lpprop.bilinear_upsample(logits, image.shape[-2:]) - depth


METHODS = {
    "auto": ({}, ["feats", "image"]),
    "lposs+": ({"k": 5, "r": 5}, ["feats", "image"]),
    "lposs": ({"k": 5, "background": 0.4}, ["feats", "image"]),
    "max_velocity": ({}, ["feats", "image"]),
    "region_vote": ({}, ["image", "regions"]),
    "pamr": ({"iterations": 2}, ["image"]),
}


@pytest.mark.parametrize("method", METHODS)
def test_every_item_has_the_bits_of_a_call_by_itself(method):
    options, inputs = METHODS[method]
    refine = Refine(method, outputs=["labels", "scores"], **options)
    out = refine(columns(ITEMS))
    assert out["error"] == [""] * len(ITEMS)
    for number, item in enumerate(ITEMS):
        given = {name: item[name] for name in inputs}
        scores = lpprop.refine(item["logits"], method=method, **given, **options)
        assert out["scores"][number].tobytes() == scores[0].numpy().tobytes()
        assert out["scores"][number].shape == scores.shape[1:]
        assert np.array_equal(out["labels"][number], scores.argmax(1)[0])
        assert out["labels"][number].dtype == np.uint16
    assert {name: out[name] for name in out if name in ITEMS[0]} == {
        name: column
        for name, column in columns(ITEMS).items()
        if name not in ("logits", "feats", "image") and name not in inputs
    }


@pytest.mark.parametrize("seed", range(3))
def test_neither_the_order_nor_the_batch_changes_a_bit(seed):
    refine = Refine("lposs+", k=5, r=5, outputs=["scores"])
    whole = refine(columns(ITEMS))["scores"]
    order = random.Random(seed).sample(range(len(ITEMS)), len(ITEMS))
    cut = random.Random(seed).randint(1, len(ITEMS) - 1)
    for numbers in (order[:cut], order[cut:]):
        parts = refine(columns([ITEMS[number] for number in numbers]))["scores"]
        for number, part in zip(numbers, parts, strict=True):
            assert part.tobytes() == whole[number].tobytes()


def test_columns_may_be_lists_objects_or_stacks_of_arrays_or_tensors():
    alike = [make_item(number, (48, 64)) for number in range(3)]
    names = ["logits", "feats", "image"]
    plain = columns(alike, names)
    refine = Refine("lposs", k=5, outputs=["scores"])
    expected = refine(plain)["scores"]
    stacked = {name: np.stack(column) for name, column in plain.items()}
    tensors = {name: torch.from_numpy(column) for name, column in stacked.items()}
    objects = {name: as_objects(column) for name, column in plain.items()}
    readonly = {name: column.copy() for name, column in stacked.items()}
    for column in readonly.values():
        column.setflags(write=False)
    for batch in (stacked, tensors, objects, readonly):
        found = refine(batch)["scores"]
        assert [x.tobytes() for x in found] == [x.tobytes() for x in expected]


def test_a_single_item_is_processed_like_a_batch_of_it():
    refine = Refine("lposs", k=5, outputs=["labels", "scores"], keep=["image"])
    batch, single = refine(columns(ITEMS[:1])), refine.process(ITEMS[0])
    assert set(batch) == set(single)
    assert np.array_equal(batch["scores"][0], single["scores"])
    assert single["image"] is ITEMS[0]["image"]
    assert (single["name"], single["error"]) == ("n0", "")
    assert "feats" not in single


def test_an_empty_batch_is_one():
    refine = Refine("bilinear", outputs=["labels", "scores"])
    assert refine({"logits": [], "image": [], "name": []}) == {
        "labels": [], "scores": [], "error": [], "name": [],
    }  # fmt: skip


def test_sizes_spans_and_windows_are_columns():
    item = ITEMS[0]
    windows = SlidingWindows((48, 64), 32, 16)
    logits = np.random.default_rng(0).random((len(windows), 3, 2, 2), dtype=np.float32)
    refine = Refine("bilinear", outputs=["scores"])
    batch = {
        "logits": [item["logits"], logits], "image": [item["image"]] * 2,
        "windows": [None, windows], "size": as_objects([np.array([24, 32]), None]),
        "span": [(50, 70), None],
    }  # fmt: skip
    found = refine(batch)
    assert found["error"] == ["", ""]
    expected = lpprop.refine(item["logits"], image=item["image"], method="bilinear",
                             size=(24, 32), span=(50, 70))  # fmt: skip
    assert np.array_equal(found["scores"][0], expected[0])
    expected = lpprop.refine(logits, image=item["image"], method="bilinear", windows=windows)
    assert np.array_equal(found["scores"][1], expected[0])


def test_a_method_of_ones_own_gets_tensors_with_the_axis_of_a_batch():
    found = Refine(subtract_depth, outputs=["scores"])(columns(ITEMS[:2]))["scores"]
    for item, scores in zip(ITEMS, found, strict=False):
        depth = torch.from_numpy(item["depth"])[None]
        expected = lpprop.refine(
            item["logits"], image=item["image"], depth=depth, method=subtract_depth
        )
        assert np.array_equal(scores, expected[0])


def test_regions_are_proposed_where_an_item_has_none():
    pytest.importorskip("skimage")
    batch = columns(ITEMS[:2], ["logits", "image"]) | {"regions": [ITEMS[0]["regions"], None]}
    found = Refine("region_vote", regions="slic", outputs=["scores"])(batch)["scores"]
    for item, regions, scores in zip(ITEMS, (ITEMS[0]["regions"], "slic"), found, strict=False):
        given = {"image": item["image"], "regions": regions}
        expected = lpprop.refine(item["logits"], method="region_vote", **given)
        assert np.array_equal(scores, expected[0])


# --------------------------------------------------------------------------- images


def encode(pixels, suffix="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, suffix, **options)
    return file.getvalue()


def test_images_may_be_arrays_pictures_bytes_or_paths(tmp_path):
    pixels = ITEMS[0]["image"]
    png = encode(pixels)
    (tmp_path / "a.png").write_bytes(png)
    images = [
        pixels, Image.fromarray(pixels), png, bytearray(png), tmp_path / "a.png",
        str(tmp_path / "a.png"), np.str_(tmp_path / "a.png"), {"bytes": png, "path": None},
        {"bytes": None, "path": str(tmp_path / "a.png")},
    ]  # fmt: skip
    batch = columns(ITEMS[:1] * len(images), ["logits", "feats"]) | {"image": images}
    out = Refine("lposs+", k=5, r=3, outputs=["scores"])(batch)
    assert out["error"] == [""] * len(images)
    assert len({scores.tobytes() for scores in out["scores"]}) == 1


def test_pixels_stay_as_they_are_stored_beside_logits():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encode(ITEMS[0]["image"], exif=exif)
    batch = columns(ITEMS[:1], ["logits"]) | {"image": [turned]}
    with pytest.warns(lpprop.InputWarning, match="a file of .* bytes: its EXIF orientation 6"):
        out = Refine("bilinear")(batch)
    assert out["labels"][0].shape == (48, 64)


# --------------------------------------------------------------------------- errors


def spoil(item, **changes):
    return {**item, **changes}


BAD = {
    "no logits": (spoil(ITEMS[0], logits=None), "logits: got NoneType"),
    "NaN": (spoil(ITEMS[0], logits=np.full((4, 3, 4), np.nan, np.float32)), "logits: got"),
    "no image": (spoil(ITEMS[0], image=None), "image: got None"),
    "other batch": (spoil(ITEMS[0], feats=np.zeros((2, 8, 3, 4), np.float32)), "feats: got"),
    "text": (spoil(ITEMS[0], feats="feats.npy"), "feats: got str"),
    "cut": (spoil(ITEMS[0], image=encode(ITEMS[0]["image"])[:300]), "image: got a file of 300 "),
    "empty": (spoil(ITEMS[0], image=b""), "image: got a file of 0 bytes, which cannot be read"),
    "absent": (spoil(ITEMS[0], image="absent.png"), "image: got absent.png, which does not exist"),
    "size": (spoil(ITEMS[0], size=(0, 3)), "size[0]: got 0"),
}


@pytest.mark.parametrize("kind", BAD)
def test_an_item_that_fails_costs_no_other_one(kind):
    bad, reason = BAD[kind]
    refine = Refine("lposs", k=5, outputs=["labels", "scores"])
    items = [spoil(item, size=item.get("size")) for item in (ITEMS[0], bad, ITEMS[1])]
    out = refine(columns(items))
    assert [bool(error) for error in out["error"]] == [False, True, False]
    assert out["error"][1].startswith(reason)
    assert "\n" not in out["error"][1]
    assert " at 0x" not in out["error"][1]  # the same item has the same error everywhere
    assert out["name"] == [item["name"] for item in items]
    assert (out["labels"][1].shape, out["labels"][1].dtype) == ((0, 0), np.uint16)
    assert (out["scores"][1].shape, out["scores"][1].dtype) == ((0, 0, 0), np.float32)
    good = refine(columns([items[0], items[2]]))["scores"]
    assert np.array_equal(out["scores"][0], good[0])
    assert np.array_equal(out["scores"][2], good[1])


def fail(logits):
    raise KeyError("a bug\nof one's own")


def lose_the_gpu(logits):
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_two_images_in_one_item_are_no_item():
    """The labels of the second would be lost without a word."""
    grid = np.zeros((3, 4, 4), np.float32)
    pairs = [grid, np.stack([grid, grid])]
    found = lpprop.batch.Refine("bilinear")({"logits": pairs, "size": [(16, 16)] * 2})
    assert [labels.shape for labels in found["labels"]] == [(16, 16), (0, 0)]
    assert found["error"][0] == ""
    assert found["error"][1].startswith("logits: got 2 images in one item")


@pytest.mark.parametrize("item", [None, "a.jpg", [np.zeros((3, 4, 4), np.float32)]])
def test_an_item_is_a_dictionary(item):
    with pytest.raises(InputError, match=r"^item: got"):
        lpprop.batch.Refine("bilinear").process(item)


def test_other_errors_are_named_by_their_type():
    batch = columns(ITEMS[:1], ["logits", "image"])
    assert Refine(fail)(batch)["error"] == ['KeyError: "a bug\\nof one\'s own"']


def test_a_gpu_that_is_lost_ends_the_worker():
    with pytest.raises(RuntimeError, match="illegal memory access"):
        Refine(lose_the_gpu)(columns(ITEMS[:1], ["logits", "image"]))


def test_doubts_are_errors_of_an_item_where_warnings_are_errors():
    batch = columns(ITEMS[:2], ["feats", "image"])
    batch["logits"] = [ITEMS[0]["logits"][:1], ITEMS[1]["logits"]]
    with pytest.warns(lpprop.InputWarning, match="single class"):
        assert Refine("bilinear")(batch)["error"] == ["", ""]
    out = Refine("bilinear")(batch)  # pytest turns warnings into errors
    assert out["error"][0].startswith("InputWarning: logits: got a single class")
    assert out["error"][1] == ""


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "batch: got list, expected a dictionary of columns"),
        ({"image": []}, "batch: got the columns image, expected a column 'logits'"),
        (ITEMS[0], "logits: got an array of shape (4, 3, 4), expected a column with an entry per"),
        ({"logits": ITEMS[0]["logits"][None], "image": "a.png"}, "image: got str, expected a col"),
        ({"logits": [0, 0], "image": [0]}, "batch: got logits with 2, image with 1 items, exp"),
        ({"logits": [], "labels": []}, "batch: got a column 'labels', expected none of this name"),
        ({"logits": [], "error": []}, "batch: got a column 'error', expected none of this name"),
    ],
)
def test_a_batch_that_is_none_is_refused(batch, message):
    with pytest.raises(InputError) as refused:
        Refine("bilinear")(batch)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Refine("lpos"), "method: got 'lpos'"),
        (lambda: Refine("lposs", kk=3), "kk: got an option that"),
        (lambda: Refine("lposs", k=0), "k: got 0"),
        (lambda: Refine(3), "method: got 3"),
        (lambda: Refine(fail, k=3), "k: got options beside a method"),
        (lambda: Refine(outputs=["label"]), "outputs: got 'label', expected one of 'labels', 'sc"),
        (lambda: Refine(outputs="labels"), "outputs: got 'labels', expected a list of names"),
        (lambda: Refine(keep=["name"]), "keep: got 'name', expected one of 'logits', 'feats', 'i"),
        (lambda: Refine(background=2), "background: got 2"),
        (lambda: Refine(device="gpu"), "device: got 'gpu' ("),
        (lambda: Refine(device=0), "device: got int, expected"),
        (lambda: Refine("region_vote", regions="slik"), "regions: got 'slik'"),
        (lambda: Refine("region_vote", regions=3), "regions: got int, expected a function"),
        (lambda: Refine("lposs", regions="slic"), "regions: got regions, or what proposes them"),
    ],
)
def test_what_is_wrong_with_the_configuration_is_told_at_once(make, message):
    with pytest.raises(InputError) as refused:
        make()
    assert str(refused.value).startswith(message)


# --------------------------------------------------------------------------- processes


@pytest.mark.parametrize(
    "refine",
    [Refine("lposs+", k=5, r=5), Refine(subtract_depth, outputs=["scores"], device="cpu")],
    ids=["preset", "function"],
)
def test_the_pickle_is_small_equal_and_without_what_a_process_has(refine):
    before = pickle.dumps(refine)
    refine(columns(ITEMS[:1]))
    assert pickle.dumps(refine) == before
    assert len(before) < 1000
    copy = pickle.loads(before)
    assert copy == refine
    assert hash(copy) == hash(refine)
    assert repr(copy) == repr(refine)
    assert copy != Refine("lposs+", k=6, r=5)


def test_the_repr_says_how_it_is_configured():
    assert repr(Refine("lposs", k=5)) == (
        "Refine(method='lposs', background=None, regions=None, options={'k': 5}, "
        "outputs=('labels',), keep=(), device='auto')"
    )


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_other_processes_give_the_same_bits(start):
    refine = Refine("lposs+", k=5, r=5, outputs=["scores"])
    batch = columns(ITEMS, ["logits", "feats", "image"])
    context = multiprocessing.get_context(start)
    with context.Pool(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        (found,) = pool.map(refine, [batch])
    assert found["error"] == [""] * len(ITEMS)
    expected = refine(batch)["scores"]
    assert [x.tobytes() for x in found["scores"]] == [x.tobytes() for x in expected]


def test_what_a_process_has_compiled_changes_no_bit(monkeypatch):
    """A process computes a small image by PyTorch, and by other code once it has compiled any."""
    pytest.importorskip("llvmlite")
    refine = Refine("lposs+", k=5, r=5, outputs=["scores"])
    item = ITEMS[-1]
    by_itself = lpprop.refine(item["logits"], item["feats"], item["image"],
                              method="lposs+", k=5, r=5)  # fmt: skip
    monkeypatch.setattr("lpprop.kernels.dispatch._has_compiled", lambda: True)
    (scores,) = refine(columns([item], ["logits", "feats", "image"]))["scores"]
    assert np.array_equal(scores, by_itself[0])
    other = lpprop.refine(item["logits"], item["feats"], item["image"], method="lposs+", k=5, r=5)
    assert not torch.equal(other, by_itself)  # else this test could not fail


# --------------------------------------------------------------------------- devices


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_all_inputs_go_to_the_device():
    with fake_device() as device:
        for method in ("lposs+", "region_vote", "max_velocity", subtract_depth):
            options = {"k": 5, "r": 5} if method == "lposs+" else {}
            refine = Refine(method, device=device, outputs=["scores"], **options)
            out = refine(columns(ITEMS[:2]))
            assert out["error"] == ["", ""], method
            near = Refine(method, device="cpu", outputs=["scores"], **options)(columns(ITEMS[:2]))
            for far, here in zip(out["scores"], near["scores"], strict=True):
                # Two solvers, each with a residual of 1e-6 of a system of condition 39.
                np.testing.assert_allclose(far, here, rtol=0, atol=8e-5 * np.abs(here).max())


def test_a_device_that_is_not_there_is_no_error_of_an_item():
    if torch.cuda.is_available():
        pytest.skip("it is there")
    refine = Refine("bilinear", device="cuda")
    with pytest.raises(InputError, match=r"^device: got cuda \(.*\), expected a device that this"):
        refine(columns(ITEMS))


@pytest.mark.parametrize(
    ("rank", "environment", "expected"),
    [
        (None, {}, "cuda:0"),
        (5, {}, "cuda:1"),
        (None, {"LOCAL_RANK": "3"}, "cuda:3"),
        (2, {"LOCAL_RANK": "3"}, "cuda:2"),
    ],
)
def test_several_workers_spread_over_the_gpus(monkeypatch, rank, environment, expected):
    from lpprop.batch import devices

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert devices._choose(rank) == expected
