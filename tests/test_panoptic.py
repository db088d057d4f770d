"""Panoptic against the image processors of transformers, on tiny random models."""

import importlib
import itertools
import json

import numpy as np
import pytest
import torch

from lpprop._core.errors import InputError
from lpprop.regions.panoptic import Panoptic, _fit_edges

transformers = pytest.importorskip("transformers")
region_models = importlib.import_module("region_models")
SIDE = region_models.SIDE
eomt_kinds = pytest.mark.parametrize("kind", ["Eomt", "EomtDinov3"])
SQUARE = {"height": 384, "width": 384}


@pytest.fixture(scope="module")
def models():
    kinds = {kind: region_models.make_eomt(kind) for kind in ("Eomt", "EomtDinov3")}
    return kinds | {"Mask2Former": region_models.make_mask2former()}


def images(count=1, size=(40, 60), seed=1):
    pixels = torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return (255 * pixels).round() / 255


def arrays(batch):
    return [(255 * image).byte().permute(1, 2, 0).numpy() for image in batch]


def processor(kind):
    if kind == "Mask2Former":
        edges = {"shortest_edge": 40, "longest_edge": 70}
        name = "models.mask2former.image_processing_pil_mask2former"
        module = importlib.import_module(f"transformers.{name}")
        return module.Mask2FormerImageProcessorPil(size=edges)
    module = importlib.import_module("transformers.models.eomt.image_processing_pil_eomt")
    edges = {"shortest_edge": SIDE, "longest_edge": SIDE}
    return module.EomtImageProcessorPil(size=edges, do_pad=True)


def watch(monkeypatch, model):
    seen, own = [], model.forward
    monkeypatch.setattr(
        model, "forward", lambda pixels: seen.append((pixels, own(pixels))) or seen[-1][1]
    )
    return seen


@pytest.mark.parametrize("kind", ["Eomt", "EomtDinov3", "Mask2Former"])
@pytest.mark.parametrize("size", [(40, 60), (97, 31), (70, 70)])
def test_images_come_as_the_processors_make_them(models, kind, size, monkeypatch):
    image, made = images(size=size), processor(kind)
    options = {"size": dict(made.size)} if kind == "Mask2Former" else {}
    options = {name: {k: v for k, v in x.items() if v} for name, x in options.items()}
    seen = watch(monkeypatch, models[kind])
    Panoptic(models[kind], **options)(image)
    expected = torch.as_tensor(np.stack(made(arrays(image))["pixel_values"]))
    # PIL rounds to 8 bits after each of two passes.
    torch.testing.assert_close(seen[0][0], expected, atol=1.6 / 255 / 0.224, rtol=0)


@eomt_kinds
@pytest.mark.parametrize("thresholds", [(0.3, 0.5, 0.1), (0.3, 0.4, 0.3), (0.99, 0.5, 0.8)])
def test_segments_of_eomt_are_transformers(models, kind, thresholds, monkeypatch):
    score, mask, share = thresholds
    batch, made = images(2), processor(kind)
    seen = watch(monkeypatch, models[kind])
    panoptic = Panoptic(models[kind], score_threshold=score, mask_threshold=mask, area_share=share)
    found = panoptic(batch)
    for regions, (_, output) in zip(found, seen, strict=True):
        [expected] = made.post_process_panoptic_segmentation(output, [(40, 60)], score, mask, share)
        assert regions.equal(expected["segmentation"].long())
    if score < 0.9:
        assert int(found.max()) > 0  # there are segments to number
    else:
        assert (found == -1).all()


def test_segments_of_mask2former_are_transformers_within_their_masks(monkeypatch):
    """With class probabilities of 1 both rules differ only outside the masks."""
    model, image = region_models.make_mask2former(), images(size=(384, 384))
    with torch.no_grad():
        for parameter in model.class_predictor.parameters():
            parameter.mul_(1e3)
    seen = watch(monkeypatch, model)
    found = Panoptic(model, size=SQUARE, area_share=0.1)(image)[0]
    [[_, output]] = seen
    [expected] = processor("Mask2Former").post_process_panoptic_segmentation(
        output, 0.8, 0.5, 0.1, set(), [(384, 384)]
    )
    chosen = output.class_queries_logits[0].argmax(-1) < 3
    masks = torch.nn.functional.interpolate(
        output.masks_queries_logits[:, chosen], (384, 384), mode="bilinear"
    )
    sure = masks[0].sigmoid().amax(0) >= 0.5
    ours = torch.where(sure, expected["segmentation"].long() - 1, -1)
    assert found.equal(ours)
    assert len(ours.unique()) > 2
    assert (ours == -1).any()


def test_edges_are_fitted_as_transformers_fits_them():
    fit = importlib.import_module("transformers.image_transforms").get_size_with_aspect_ratio
    for size in itertools.product((1, 17, 40, 63, 64, 100, 333), repeat=2):
        for edges in ((64, 64), (40, 70), (800, 1333)):
            expected = tuple(max(1, side) for side in fit(size, *edges))
            assert _fit_edges(size, *edges) == expected


def test_batches_forms_and_half_precision(models):
    panoptic = Panoptic(models["Eomt"], score_threshold=0.3, area_share=0.1)
    batch = images(3)
    together = panoptic(batch)
    assert together.dtype == torch.long
    for number, item in enumerate(batch):
        assert panoptic(item.transpose(1, 2).contiguous().transpose(1, 2))[0].equal(
            together[number]
        )
        assert panoptic(arrays(batch)[number])[0].equal(together[number])
    half = Panoptic(region_models.make_eomt().bfloat16(), score_threshold=0.3, area_share=0.1)
    half.train()
    assert not half.model.training
    assert not any(weights.requires_grad for weights in half.parameters())
    assert half(batch).shape == (3, 40, 60)


def test_weights_are_loaded_with_their_colours_and_their_size(models, tmp_path):
    models["Mask2Former"].save_pretrained(tmp_path)
    stored = {"image_mean": [0.5, 0.4, 0.3], "size": {"height": 64, "width": 96}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stored))
    loaded = Panoptic.from_pretrained(tmp_path, download=False, score_threshold=0.2)
    assert loaded.size == stored["size"]
    own = Panoptic(
        models["Mask2Former"], mean=(0.5, 0.4, 0.3), size=stored["size"], score_threshold=0.2
    )
    assert loaded(images()).equal(own(images()))
    models["Eomt"].save_pretrained(tmp_path / "eomt")
    assert Panoptic.from_pretrained(tmp_path / "eomt", download=False).size is None


def test_what_cannot_work_is_refused(models, monkeypatch):
    model = models["Eomt"]
    with pytest.raises(InputError, match=r"^model: got Linear, expected one of Eomt"):
        Panoptic(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"^size: .* None, since it sees 64 pixels a side"):
        Panoptic(model, size=SQUARE)
    for size in ({"height": 4}, {"height": 4, "width": 0}, 384):
        with pytest.raises(InputError, match=r"^size"):
            Panoptic(models["Mask2Former"], size=size)
    for name in ("score_threshold", "mask_threshold", "area_share"):
        with pytest.raises(InputError, match=rf"^{name}: got 1\.5"):
            Panoptic(model, **{name: 1.5})
    with monkeypatch.context() as patch:
        patch.setattr("lpprop.backbones.frozen.available_bytes", lambda _: 1000)
        patch.setattr(model, "forward", lambda *_: pytest.fail("the model ran"))
        with pytest.raises(InputError, match=r"^image: got 40 x 60 pixels, for which Panoptic"):
            Panoptic(model)(images())
    broken = region_models.make_eomt()
    broken.class_predictor.weight.data.fill_(torch.inf)
    with pytest.raises(InputError, match=r"^model: got NaN or infinity"):
        Panoptic(broken)(images())
