"""SAM and SAM2 against transformers' own preprocessing and filters, on tiny random models."""

import importlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop.regions
from lpprop._core.errors import InputError
from lpprop.regions import checkpoints, named, segment_anything
from lpprop.regions.panoptic import Panoptic
from lpprop.regions.prompted_sam import PromptedSAM
from lpprop.regions.sam import SAM, SAM2, grid_points
from lpprop.regions.suppression import box_iou, mask_boxes, stability, suppress

transformers = pytest.importorskip("transformers")

pil_sam = importlib.import_module("transformers.models.sam.image_processing_pil_sam")
region_models = importlib.import_module("region_models")
KINDS, make_sam = region_models.KINDS, region_models.make_sam

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
every_kind = pytest.mark.parametrize("kind", KINDS)
# All masks of a small grid pass, whatever random weights predict.
ALL = {"points_per_side": 3, "iou_threshold": -99, "stability_threshold": 0.0, "overlap": 1.0}


@pytest.fixture(scope="module")
def models():
    return {kind: make_sam(kind) for kind in KINDS}


def proposer(model, **options):
    squeezes = type(model).__name__ in SAM.architectures
    return (SAM if squeezes else SAM2)(model, **ALL | options)


def images(count=1, size=(40, 60), seed=1):
    pixels = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return (255 * pixels).round() / 255


def watch(monkeypatch, model, name):
    """Record the arguments of each call of a method."""
    calls, own = [], getattr(model, name)

    def method(*args, **kwargs):
        calls.append((args, kwargs))
        return own(*args, **kwargs)

    monkeypatch.setattr(model, name, method)
    return calls


@every_kind
@pytest.mark.parametrize("size", [(40, 60), (90, 31)])
def test_images_and_points_come_as_the_processors_make_them(models, kind, size, monkeypatch):
    model, image = models[kind], images(size=size)
    seen = watch(monkeypatch, model, "get_image_embeddings")
    asked = watch(monkeypatch, model, "forward")
    proposer(model).propose(image)
    [[[pixels], _]] = seen
    side = model.prompt_encoder.input_image_size
    array = (255 * image[0]).byte().permute(1, 2, 0).numpy()
    points = pil_sam._build_point_grid(3) * np.array([[size[1], size[0]]])
    if kind in ("Sam", "SamHQ"):
        square = {"height": side, "width": side}
        processor = pil_sam.SamImageProcessorPil(size={"longest_edge": side}, pad_size=square)
        expected = processor(array, return_tensors="pt")["pixel_values"]
        points = pil_sam._normalize_coordinates(side, points, size)
    else:  # those of the processors without torchvision that stretch; their colours are Sam2's
        mean, std = (MEAN, STD) if kind == "Sam2" else (torch.full((3,), 0.5),) * 2
        stretched = Image.fromarray(array).resize((side, side), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(stretched)).permute(2, 0, 1)[None] / 255
        expected = (expected - mean[:, None, None]) / std[:, None, None]
        points = points * side / np.array([[size[1], size[0]]])
    # PIL rounds to 8 bits after each of two passes.
    torch.testing.assert_close(pixels, expected.float(), atol=1.6 / 255 / 0.224, rtol=0)
    given = torch.cat([kwargs["input_points"] for _, kwargs in asked])
    torch.testing.assert_close(given[:, 0, 0], torch.from_numpy(points).float())


def reference(model, image, options):
    """Masks by transformers' own functions, point by point, with a brute-force suppression."""
    size, side = image.shape[-2:], model.prompt_encoder.input_image_size
    squeezes = type(model).__name__ in SAM.architectures
    resized = size if not squeezes else [int(x * side / max(size) + 0.5) for x in size]
    found = []
    processor = pil_sam.SamImageProcessorPil()
    seen = proposer(model)._embed(image)
    for x, y in pil_sam._build_point_grid(options["points_per_side"]):
        point = torch.tensor([x, y]).float() * torch.tensor(
            [resized[1], resized[0]] if squeezes else [side, side]
        )
        with torch.no_grad():
            output = model(**seen, input_points=point[None, None, None], multimask_output=True)
        if squeezes:
            square = {"height": side, "width": side}
            post = processor.post_process_masks(
                output.pred_masks, [size], [resized], binarize=False, pad_size=square
            )
        else:
            post = [torch.nn.functional.interpolate(output.pred_masks[0], size, mode="bilinear")]
        masks, scores, boxes = processor.filter_masks(
            post[0], output.iou_scores[0], size, [0, 0, size[1], size[0]],
            pred_iou_thresh=options["iou_threshold"],
            stability_score_thresh=options["stability_threshold"],
            stability_score_offset=options["stability_offset"],
        )  # fmt: skip
        decoded = [torch.from_numpy(pil_sam._rle_to_mask(rle).copy()) for rle in masks]
        found += list(zip(scores.tolist(), decoded, boxes.tolist(), strict=True))
    kept = []
    for score, mask, box in sorted(found, key=lambda item: -item[0]):
        if all(brute_iou(box, better[2]) <= options["overlap"] for better in kept):
            kept.append((score, mask, box))
    return len(found), kept


def brute_iou(a, b):
    area = [max(0, x[2] - x[0]) * max(0, x[3] - x[1]) for x in (a, b)]
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = sum(area) - common
    return common / union if union else 0.0


@pytest.mark.parametrize(
    ("kind", "iou", "stable", "overlap"),
    [("Sam", 0.1, 0.45, 0.95), ("SamHQ", 0.5, 0.96, 1.0), ("Sam2", 0.3, 0.957, 1.0)],
)
def test_masks_are_those_that_transformers_keeps(models, kind, iou, stable, overlap):
    options = {
        "points_per_side": 4,
        "iou_threshold": iou,
        "stability_threshold": stable,
        "stability_offset": 0.02,
        "overlap": overlap,
    }
    image = images()
    candidates, expected = reference(models[kind], image, options)
    found = proposer(models[kind], **options).propose(image)
    assert 1 < len(expected) <= candidates < 40
    assert (len(expected) < candidates) == (kind == "Sam")  # the others' boxes are all the image's
    torch.testing.assert_close(found.scores[0], torch.tensor([x[0] for x in expected]))
    torch.testing.assert_close(found.masks[0], torch.stack([x[1] for x in expected]))


@every_kind
def test_batches_and_bounds_of_memory_change_nothing(models, kind, monkeypatch):
    model, batch = models[kind], images(3)
    embedded = watch(monkeypatch, model, "get_image_embeddings")
    decoded = watch(monkeypatch, model, "forward")
    together = proposer(model).propose(batch)
    assert (len(embedded), len(decoded)) == (3, 3)
    enlarged = watch(monkeypatch, segment_anything.SegmentAnything, "_enlarge")
    strided = batch.transpose(2, 3).contiguous().transpose(2, 3)
    apart = [proposer(model, max_bytes=1).propose(item[None]) for item in strided]
    assert (len(embedded), len(decoded)) == (6, 3 + 3 * 9)  # each image once, a point at a time
    assert max(len(args[1]) for args, _ in enlarged) <= 3  # the masks of a point
    for number, alone in enumerate(apart):
        torch.testing.assert_close(together.scores[number], alone.scores[0])
        assert together.masks[number].shape == alone.masks[0].shape
        assert (together.masks[number] != alone.masks[0]).float().mean() < 1e-3  # ties in rounding
    assert not together.scores[0].equal(together.scores[1])


def test_images_come_in_all_forms_and_no_mask_is_no_error(models):
    sam, image = proposer(models["Sam"]), images()
    expected = sam(image)[0]
    assert expected.dtype == torch.bool
    array = (255 * image[0]).byte().permute(1, 2, 0).numpy()
    for form in (array, Image.fromarray(array)):
        assert sam(form)[0].equal(expected)
    none = proposer(models["Sam"], iou_threshold=99).propose(image)
    assert none.masks[0].shape == (0, 40, 60)
    assert none.scores[0].shape == (0,)


def test_a_model_stays_frozen_and_computes_in_its_own_dtype():
    sam = proposer(make_sam("Sam2").bfloat16())
    sam.train()
    assert not sam.model.training
    assert not any(weights.requires_grad for weights in sam.parameters())
    masks, scores = sam.propose(images().requires_grad_())
    assert scores[0].dtype == torch.float32
    assert not scores[0].requires_grad
    assert masks[0].any()
    assert "Sam2Model, points_per_side=3" in repr(sam)
    assert "stability_offset=" in repr(sam)
    assert "bfloat16" in repr(sam)


@pytest.mark.parametrize("kind", ["Sam", "Sam2"])
def test_weights_are_loaded_by_name_with_their_colours(kind, models, tmp_path):
    model, image = models[kind], images()
    model.save_pretrained(tmp_path)
    colours = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(colours))
    cls = SAM if kind == "Sam" else SAM2
    loaded = cls.from_pretrained(tmp_path, download=False, **ALL)
    own = proposer(model, mean=colours["image_mean"], std=colours["image_std"])
    assert loaded(image)[0].equal(own(image)[0])
    assert (own(image)[0] != proposer(model)(image)[0]).any()
    other = SAM2 if kind == "Sam" else SAM
    with pytest.raises(InputError, match=rf"^model: got {kind}Model, expected one of "):
        other.from_pretrained(tmp_path, download=False)
    with pytest.raises(InputError, match=r"^checkpoint: got 'sam', expected 'sam"):
        cls.from_pretrained("sam", download=False)


def test_what_cannot_work_is_refused(models, monkeypatch):
    model = models["Sam"]
    for name, value in (
        ("points_per_side", 0),
        ("iou_threshold", float("nan")),
        ("stability_threshold", 1.5),
        ("stability_offset", -1),
        ("overlap", -0.1),
        ("max_bytes", 0),
    ):
        with pytest.raises(InputError, match=rf"^{name}: got "):
            proposer(model, **{name: value})
    sam = proposer(model)
    with pytest.raises(InputError, match=r"^image: got values from 0 to 255"):
        sam(255.0 * torch.eye(8).expand(1, 3, 8, 8))
    with monkeypatch.context() as patch:
        patch.setattr("lpprop.backbones.frozen.available_bytes", lambda _: 1000)
        patch.setattr(model, "get_image_embeddings", lambda *_: pytest.fail("the model ran"))
        with pytest.raises(InputError, match=r"^image: got 40 x 60 pixels, for which SAM needs"):
            sam(images())
    broken = make_sam()
    broken.mask_decoder.upscale_conv1.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"^model: got NaN or infinity in the masks of SamModel"):
        proposer(broken)(images())


def random_masks(count=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(count, 12, 17, dtype=torch.bool)
    for mask in masks[1:]:  # the first is empty
        y, x = (int(torch.randint(0, n, (), generator=generator)) for n in (9, 14))
        mask[y : y + 6, x : x + 7] = (
            torch.rand(12, 17, generator=generator)[:6, :7][: 12 - y, : 17 - x] > 0.4
        )
    return masks


def test_boxes_against_loops_and_transformers():
    masks = random_masks()
    expected = []
    for mask in masks:
        y, x = mask.nonzero(as_tuple=True)
        expected.append(
            [int(x.min()), int(y.min()), int(x.max()), int(y.max())] if len(x) else [0] * 4
        )
    assert mask_boxes(masks).tolist() == expected
    assert mask_boxes(masks).equal(pil_sam._batched_mask_to_box(masks))
    assert mask_boxes(masks[:0]).shape == (0, 4)


def test_stability_by_its_definition():
    logits = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0))
    logits[0] = -5  # empty at both thresholds
    for offset in (0.0, 0.5, 1.0):
        expected = [
            sum(v > offset for v in flat) / max(1, sum(v > -offset for v in flat))
            for flat in logits.flatten(1).tolist()
        ]
        assert stability(logits, offset).tolist() == pytest.approx(expected)


def test_suppression_by_brute_force():
    boxes = mask_boxes(random_masks(60, seed=3))
    scores = torch.rand(60, generator=torch.Generator().manual_seed(4))
    scores[7] = scores[9]
    for overlap in (0.0, 0.3, 0.7, 1.0):
        kept = []
        for i in sorted(range(60), key=lambda i: (-float(scores[i]), i)):
            if all(brute_iou(boxes[i].tolist(), boxes[j].tolist()) <= overlap for j in kept):
                kept.append(i)
        assert suppress(boxes, scores, overlap).tolist() == kept
    assert suppress(boxes[:0], scores[:0], 0.5).tolist() == []
    thin = torch.tensor([[3.0, 1, 3, 8]])  # one pixel wide: no area, as in SAM's code
    assert box_iou(thin[0], thin).tolist() == [0.0]


def test_the_grid_is_transformers():
    for count in (1, 2, 5):
        expected = pil_sam._build_point_grid(count) * np.array([[30, 20]])
        np.testing.assert_allclose(grid_points(count, (20, 30)), expected, rtol=1e-6)


def test_proposers_have_names_on_the_command_line(monkeypatch, models):
    asked = []

    def load(cls, name, *, download):
        asked.append((cls.__name__, name, download))
        return cls(models["Sam"])

    monkeypatch.setattr(segment_anything.SegmentAnything, "from_pretrained", classmethod(load))
    assert isinstance(named.find_proposer("sam-vitb", download=False), SAM)
    assert named.find_proposer("prompted-sam-vitb").min_area == 900
    assert asked == [("SAM", "sam-vitb", False), ("PromptedSAM", "sam-vitb", True)]
    for name in named.NAMES:
        if name not in ("slic", "felzenszwalb"):
            cls = getattr(lpprop.regions, named._MODELS[name])
            short = name.removeprefix("prompted-")
            known = checkpoints.PANOPTIC if cls.__name__ == "Panoptic" else cls.checkpoints
            assert "/" in known[short]
    with pytest.raises(InputError, match=r"^regions: got 'sam-vitc', .* Did you mean sam-vit."):
        named.find_proposer("sam-vitc")


def test_masks_are_kept_on_disk_by_the_weights_that_made_them(tmp_path, monkeypatch):
    model, image = make_sam(), images()
    embedded = watch(monkeypatch, model, "get_image_embeddings")
    for _ in range(2):
        kept = lpprop.regions.CachedProposer(proposer(model), tmp_path)
        assert kept(image)[0].equal(proposer(model)(image)[0])
    assert len(embedded) == 3
    with torch.no_grad():
        model.mask_decoder.mask_tokens.weight.mul_(2)
    assert not lpprop.regions.CachedProposer(proposer(model), tmp_path)(image)[0].equal(
        kept(image)[0]
    )


class Larger(torch.nn.Module):
    """A module of a user's own around a proposer."""

    def __init__(self, sam):
        super().__init__()
        self.sam = sam

    def forward(self, image):
        return [masks[masks.flatten(1).sum(1) > 9] for masks in self.sam(image)]


def test_settings_within_a_module_of_a_users_own_tell_it_apart(models, tmp_path):
    wrapped = [Larger(SAM(models["Sam"], overlap=share)) for share in (0.5, 0.6)]
    first, second = (lpprop.regions.CachedProposer(x, tmp_path).fingerprint() for x in wrapped)
    assert first["parts"]["sam"]["overlap"] == 0.5
    assert first["weights"] == second["weights"]
    assert first != second


@pytest.mark.gpu
def test_regions_stand_where_the_image_is(there):
    image, scores = images(), torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    cases = [
        (lambda: proposer(make_sam("Sam2")), (image,)),
        (lambda: PromptedSAM(make_sam(), iou_threshold=-99, min_area=0), (image, scores)),
        (lambda: Panoptic(region_models.make_eomt(), score_threshold=0.3), (image,)),
    ]
    for make, given in cases:
        expected = make()(*given)[0]
        found = make().to(there)(*(x.to(there) for x in given))[0]
        assert found.device.type == there.type
        assert found.shape == expected.shape
        assert (found.cpu() != expected).float().mean() < 0.01
    with pytest.raises(InputError, match=r"^image: got a tensor on cpu, expected one on "):
        make().to(there)(image)
