"""Regions from files and from SAM's tools: every format, round trips, and hostile files."""

import json
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from safetensors.torch import save_file

from lpprop._core.errors import InputError, InputWarning
from lpprop.io.regions import load_regions
from lpprop.io.rle import decode_rle
from lpprop.io.sam_masks import from_sam

MAP = torch.tensor([[0, 0, 7], [-1, 300, 7]])
MASKS = torch.tensor([[[1, 1, 0], [0, 0, 0]], [[0, 1, 1], [0, 1, 1]]]).bool()


def write(path, value):
    {
        ".npy": lambda: np.save(path, value.numpy()),
        ".npz": lambda: np.savez(path, regions=value.numpy(), feats=np.zeros(3)),
        ".pt": lambda: torch.save({"regions": value, "scores": torch.ones(2)}, path),
        ".safetensors": lambda: save_file({"regions": value}, path),
    }[path.suffix]()
    return load_regions(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_arrays(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for given in (MAP, MAP.short()):
        found = write(path, given)
        assert found.dtype == torch.int64
        assert torch.equal(found, MAP)
    for given in (MASKS, MASKS.byte(), MASKS.long()):
        found = write(path, given)
        assert found.dtype == torch.bool
        assert torch.equal(found, MASKS)
    assert torch.equal(write(path, MASKS[0]), MASKS[:1])
    assert torch.equal(write(path, MASKS.half() / 2), MASKS / 2)
    large = torch.tensor([[2**53 + 1]])  # which no float holds
    assert torch.equal(write(path, large), large)


@pytest.mark.parametrize(
    ("array", "held"),
    [
        (np.zeros((2, 3)), r"shape \(2, 3\) of torch.float64"),
        (np.zeros((1, 1, 2, 3), int), r"shape \(1, 1, 2, 3\)"),
        (np.zeros((2, 0), int), r"shape \(2, 0\)"),
        (np.full((2, 3, 3), 2), "with others than 0 and 1"),
        (np.full((2, 3, 3), 1.5), r"with values that are not in \[0, 1\]"),
        (np.full((2, 3, 3), np.nan), r"with values that are not in \[0, 1\]"),
    ],
)
def test_arrays_that_are_no_regions(tmp_path, array, held):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=rf"^regions: got .*a\.npy, which holds an array.*{held}"):
        load_regions(tmp_path / "a.npy")


def test_numbers_beyond_int64_do_not_turn_negative(tmp_path):
    np.save(tmp_path / "a.npy", np.full((2, 2), 2**63, np.uint64))
    with pytest.raises(InputError, match=r"a\.npy, which holds numbers from 2\*\*63, beyond int64"):
        load_regions(tmp_path / "a.npy")


@pytest.mark.parametrize(("dtype", "largest"), [(np.uint8, 255), (np.uint16, 65535)])
def test_pngs_mark_pixels_in_no_region_by_the_largest_value(tmp_path, dtype, largest):
    stored = np.array([[0, 1], [largest - 1, largest]], dtype)
    Image.fromarray(stored).save(tmp_path / "a.png")
    expected = torch.tensor([[0, 1], [largest - 1, -1]])
    assert torch.equal(load_regions(tmp_path / "a.png"), expected)


def test_a_png_of_0_and_255_looks_like_a_mask(tmp_path):
    Image.fromarray(255 * MASKS[0].byte().numpy()).save(tmp_path / "a.png")
    with pytest.warns(InputWarning, match="regions: got .*of 0 and 255 alone"):
        assert torch.equal(load_regions(tmp_path / "a.png"), -MASKS[0].long())


def test_pngs_of_one_bit_are_a_mask(tmp_path):
    Image.fromarray(MASKS[0].numpy()).save(tmp_path / "a.png")
    assert torch.equal(load_regions(tmp_path / "a.png"), MASKS[:1])


# --------------------------------------------------------------------------- run lengths


def random_masks(count=6, size=(37, 53)):
    random = torch.Generator().manual_seed(0)
    shares = torch.tensor([0.0, 1.0, 0.5, 0.02, 0.98, 0.5])[:count, None, None]
    masks = torch.rand(count, *size, generator=random) < shares
    masks[-1, 5:30, 7:50] = True  # long runs, whose counts take several characters
    masks[-1, :, 20:] = False
    return masks


def encoded(masks):
    return [coco.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks]


def uncompressed(mask):
    flat = mask.T.flatten().int().tolist()
    counts, value = [0], 0
    for pixel in flat:
        if pixel != value:
            counts, value = [*counts, 0], pixel
        counts[-1] += 1
    return {"size": list(mask.shape), "counts": counts}


def test_masks_of_pycocotools_come_back():
    masks = random_masks()
    for rles in (encoded(masks), [uncompressed(mask) for mask in masks]):
        assert torch.equal(decode_rle(rles, "masks"), masks)
        assert torch.equal(from_sam(rles), masks)
    large = torch.zeros(1, 3000, 2000, dtype=torch.bool)
    large[0, 17:, 1234] = True
    assert torch.equal(decode_rle(encoded(large), "masks"), large)


def test_json_of_sams_tools(tmp_path):
    masks = random_masks()
    records = [
        {"segmentation": rle | {"counts": rle["counts"].decode()}, "predicted_iou": 0.9}
        for rle in encoded(masks)
    ]
    for content in (records, {"image": {}, "annotations": records}):
        (tmp_path / "a.json").write_text(json.dumps(content))
        assert torch.equal(load_regions(str(tmp_path / "a.json")), masks)


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [2, 3], "counts": [1, 2]},
        {"size": [2, 3], "counts": [7, -1]},
        {"size": [2, 3], "counts": [2**61, 2**61, 2**61]},
        {"size": [2, 3], "counts": [10**30]},
        {"size": [2, 3], "counts": [6.0]},
        {"size": [2, 3], "counts": [True, 5]},
        {"size": [2, 3], "counts": []},
        {"size": [2, 3], "counts": None},
        {"size": [2, 3], "counts": ""},
        {"size": [2, 3], "counts": "15P"},  # a number that goes on behind the end
        {"size": [2, 3], "counts": "6\u20ac"},
        {"size": [2, 3], "counts": "0Q0"},
        {"size": [2, 3], "counts": "o" * 40 + "0"},
        {"size": [0, 3], "counts": [0]},
        {"size": [2], "counts": [2]},
        {"size": [2**40, 3], "counts": [2]},
        {"size": [2**30, 2**30], "counts": [2**60]},  # more than any memory
    ],
    ids=lambda rle: str(rle)[:60],
)
def test_damaged_run_lengths_are_refused(tmp_path, rle):
    with pytest.raises(InputError, match=r"^masks(\[0\])?: got "):
        from_sam([rle])
    (tmp_path / "a.json").write_text(json.dumps([rle]))
    with pytest.raises(InputError, match=r"^regions: got .*a\.json"):
        load_regions(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"[]",
        b"7",
        b'{"annotations": 3}',
        b'[{"segmentation": [[0, 0, 5, 5, 5, 0]]}]',
        b'[{"size": [2, 3], "counts": [' + b"9" * 5000 + b"]}]",
        b'[{"segmentation": {"size": [1, 2], "counts": [2]}, "image_id": 1},'
        b'{"segmentation": {"size": [1, 2], "counts": [2]}, "image_id": 2}]',
        pickle.dumps([1]),
    ],
    ids=lambda content: str(content)[:30],
)
def test_what_is_no_json_of_masks(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=r"^regions: got .*a\.json") as caught:
        load_regions(tmp_path / "a.json")
    assert len(str(caught.value)) < 600


def test_other_files_and_none(tmp_path):
    with pytest.raises(InputError, match="whose format is unknown"):
        load_regions(tmp_path / "a.bmp")
    for name in ("a.npy", "a.png", "a.json"):
        with pytest.raises(InputError, match=rf"^masks: got .*{name}, which does not exist"):
            load_regions(tmp_path / name, "masks")


# --------------------------------------------------------------------------- SAM's output


def test_sams_list_of_dicts():
    records = [{"segmentation": mask.numpy(), "area": int(mask.sum())} for mask in MASKS]
    assert torch.equal(from_sam(records), MASKS)
    assert torch.equal(from_sam([{"segmentation": mask} for mask in MASKS]), MASKS)
    assert torch.equal(from_sam({"masks": list(MASKS), "scores": torch.ones(2)}), MASKS)
    assert torch.equal(from_sam(MASKS.byte()), MASKS)


def test_the_masks_that_transformers_writes_and_reads(monkeypatch):
    module = pytest.importorskip("transformers.models.sam.image_processing_pil_sam")
    masks, scores = random_masks(), torch.tensor([0.1, 0.5, 0.2, 0.9, 0.3, 0.4])
    rles = module._mask_to_rle(masks)
    assert torch.equal(from_sam(rles), masks)
    # torchvision, which it suppresses by, does not load beside a torch without CUDA.
    boxes = ModuleType("torchvision.ops.boxes")
    boxes.batched_nms = lambda *, scores, **_: scores.argsort(descending=True)
    for name in ("torchvision", "torchvision.ops"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, boxes.__name__, boxes)
    found = module._post_process_for_mask_generation(rles, scores, torch.zeros(6, 4))
    for output in ({"masks": found[0], "scores": found[1]}, found[0], found[2]):
        assert torch.equal(from_sam(output), masks[scores.argsort(descending=True)])


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ([], "masks: got no mask"),
        ({"scores": 1}, r"masks: got a dict with \['scores'\]"),
        ("masks.json", "masks: got 'masks.json'"),
        (None, "masks: got NoneType"),
        ([MASKS[0], MASKS[1].T], r"masks\[1\]: got shape \(3, 2\), expected \(2, 3\)"),
        ([MASKS[0], 2 * MASKS[1].byte()], r"masks\[1\]: got shape \(2, 3\) of torch.uint8"),
        ([MASKS], r"masks\[0\]: got shape \(2, 2, 3\) of torch.bool"),
        ([{"segmentation": [[0, 0, 5, 5]]}], r"masks\[0\]: got list"),
        ([{"segmentation": np.full((2, 3), 0.5)}], r"masks\[0\]: got shape \(2, 3\) of float64"),
        ([np.zeros((0, 3), bool)], r"masks\[0\]: got shape \(0, 3\)"),
        (encoded(MASKS) + encoded(MASKS.mT), r"masks\[2\]: got a mask of 3 x 2 pixels"),
    ],
    ids=lambda value: str(value)[:40].replace("\n", ""),
)
def test_what_is_no_output_of_sam(given, held):
    with pytest.raises(InputError, match=rf"^{held}"):
        from_sam(given)
