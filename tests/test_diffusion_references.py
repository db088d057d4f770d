"""References that Stable Diffusion draws, end to end on tiny models of the real classes."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save

import lpprop
from lpprop import InputError

pytest.importorskip("diffusers", reason="the extra models is not installed")
pytest.importorskip("transformers", reason="the extra models is not installed")

import transformers

from lpprop.backbones import VisionTransformer, load_diffusion_pipeline
from lpprop.inputs.fusing import fuse_masks
from lpprop.models import References, references_from_diffusion
from lpprop.models.artist import plan_pictures
from lpprop.models.diffusion_references import _best_mask
from lpprop.regions.sam import SAM
from tiny_diffusion import tiny_pipeline

CLASSES = ["cat", "pet = dog; cat"]
COUNT = 3


@pytest.fixture(scope="module")
def pipeline():
    return tiny_pipeline()


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(1)
    vision = {
        "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 1, "mlp_dim": 32,
        "num_attention_heads": 2, "image_size": 32, "patch_size": 8, "window_size": 2,
        "global_attn_indexes": [0], "num_pos_feats": 8,
    }  # fmt: skip
    prompt = {"hidden_size": 16, "image_size": 32, "patch_size": 8, "mask_input_channels": 8}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2}
    config = transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
    )
    return SAM(transformers.SamModel(config))


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(2)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    return VisionTransformer(transformers.Dinov2Model(config), features="token")


@pytest.fixture
def make(pipeline, sam, backbone):
    def run(classes=CLASSES, **options):
        parts = {"pipeline": pipeline, "sam": sam, "backbone": backbone}
        parts = [options.pop(name, part) for name, part in parts.items()]
        given = {"images_per_class": COUNT, "steps": 2, "prompts": ["a {}."], "points": 3}
        return references_from_diffusion(classes, *parts, **given | {"progress": False} | options)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory, pipeline, sam, backbone):
    path = tmp_path_factory.mktemp("pictures") / "run"
    references = references_from_diffusion(
        CLASSES, pipeline, sam, backbone, images_per_class=COUNT, steps=2, prompts=["a {}."],
        points=3, folder=path, progress=False,
    )  # fmt: skip
    return path, references


def same(a, b):
    pairs = zip(a.vectors, b.vectors, strict=True)
    return a.names == b.names and all(torch.equal(x, y) for x, y in pairs)


def records(path):
    return {
        str(file.relative_to(path)): json.loads(file.read_text()) for file in path.glob("*/*.json")
    }


def test_each_reference_is_that_of_its_picture_and_mask(folder, backbone, pipeline):
    path, references = folder
    assert references.names == ["cat", "pet"]
    for name, vectors in zip(references.names, references.vectors, strict=True):
        assert vectors.shape == (COUNT, 16)
        for number, vector in enumerate(vectors):
            file = path / name / f"{number:04d}"
            picture = np.array(Image.open(file.with_suffix(".png")))
            mask = np.array(Image.open(file.with_suffix(".mask.png"))) > 0
            assert picture.shape == (32, 32, 3)
            feats = backbone(picture).feats[0].double()
            share = torch.tensor(mask).double().reshape(4, 8, 4, 8).mean((1, 3))
            own = (F.normalize(feats, dim=0) * share).sum((1, 2))
            torch.testing.assert_close(vector.double(), own / own.norm(), rtol=1e-5, atol=1e-6)


def test_each_picture_is_that_of_its_record(folder, pipeline, sam):
    path, references = folder
    pipeline.set_progress_bar_config(disable=True)
    words = {"cat": ["cat"] * 3, "pet": ["dog", "cat", "dog"]}
    for file, record in records(path).items():
        name, number = file.split("/")[0], int(file.split("/")[1][:4])
        assert record["prompt"] == f"a {words[name][number]}."
        generator = torch.Generator().manual_seed(record["seed"])
        image = pipeline(
            record["prompt"], num_inference_steps=2, generator=generator, output_type="np"
        ).images[0]
        stored = np.array(Image.open((path / file).with_suffix(".png"))) / 255
        assert np.abs(stored - image).max() < 1 / 255
        # The mask is the best of the fused ones, and none of the others is better.
        mask = torch.tensor(np.array(Image.open((path / file).with_suffix(".mask.png"))) > 0)
        proposed = sam.masks_at(stored, torch.tensor(record["points"])).masks.flatten(0, 1)
        assert any(torch.equal(mask, one) for one in fuse_masks(proposed))
        assert 0 < record["overlap"] <= 1
    seeds = [record["seed"] for record in records(path).values()]
    assert len(set(seeds)) == len(seeds) == 6
    listed = references.made["prompts and seeds"]
    assert sorted(seed for own in listed.values() for _, seed in own) == sorted(seeds)


def test_the_set_says_how_it_was_made_and_is_saved(folder, backbone, tmp_path):
    _, references = folder
    references.save(tmp_path / "set.safetensors")
    loaded = References.load(tmp_path / "set.safetensors")
    assert same(loaded, references)
    assert loaded.made["pipeline"]["steps"] == 2
    assert loaded.made["classes"] == CLASSES
    loaded.check_backbone(backbone)
    other = VisionTransformer(transformers.Dinov2Model(backbone.model.config), features="token")
    with pytest.raises(InputError, match=r"^references: "):
        loaded.check_backbone(other)


class Plain:
    """A model that is no module."""

    def __init__(self, masks_at):
        self.masks_at = masks_at


@pytest.mark.parametrize("calls", [1, 4])  # within a batch of three
def test_an_interrupted_run_ends_with_the_same_references(
    folder, make, sam, tmp_path, monkeypatch, calls
):
    _, expected = folder
    masks_at, left = sam.masks_at, [None] * calls

    def interrupted(*inputs):
        if not left:
            raise KeyboardInterrupt
        left.pop()
        return masks_at(*inputs)

    monkeypatch.setattr(sam, "masks_at", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(folder=tmp_path)
    monkeypatch.undo()
    assert len(records(tmp_path)) == calls
    before = {file: (tmp_path / file).stat().st_mtime_ns for file in records(tmp_path)}
    assert same(make(folder=tmp_path), expected)
    assert all((tmp_path / file).stat().st_mtime_ns == time for file, time in before.items())


def test_a_folder_changes_nothing(folder, make):
    assert same(make(), folder[1])


def test_what_is_damaged_is_made_again_and_nothing_else_is_drawn(
    folder, make, pipeline, tmp_path, monkeypatch
):
    path, expected = folder
    shutil.copytree(path, tmp_path / "copy")
    drawn = []
    draw = type(pipeline).__call__

    def count(self, prompts, **options):
        drawn.append(prompts)
        return draw(self, prompts, **options)

    monkeypatch.setattr(type(pipeline), "__call__", count)
    assert same(make(folder=tmp_path / "copy"), expected)
    assert drawn == []
    (tmp_path / "copy/pet/0001.safetensors").write_bytes(b"cut")
    (tmp_path / "copy/pet/0002.json").write_text('{"prompt"')
    (tmp_path / "copy/pet/.lpprop-0.tmp").write_text("of a run that was killed")
    assert same(make(folder=tmp_path / "copy"), expected)
    assert drawn == [["a dog.", "a cat.", "a dog."]]
    assert records(tmp_path / "copy") == records(path)
    other = save({"reference": torch.ones(3)})  # of a model with fewer channels
    (tmp_path / "copy/pet/0001.safetensors").write_bytes(other)
    assert same(make(folder=tmp_path / "copy"), expected)
    assert len(drawn) == 2


def test_classes_and_pictures_can_be_added(folder, make, tmp_path):
    path, expected = folder
    shutil.copytree(path, tmp_path / "copy")
    references = make(["dog", *CLASSES], folder=tmp_path / "copy", images_per_class=COUNT + 1)
    for before, after in zip(expected.vectors, references.vectors[1:], strict=True):
        assert torch.equal(after[:COUNT], before)
        assert len(after) == COUNT + 1


def test_a_picture_depends_on_no_other(folder, make, pipeline):
    _, expected = folder
    sizes = []
    hook = pipeline.unet.conv_in.register_forward_hook(lambda *args: sizes.append(len(args[2])))
    alone = make([CLASSES[1], "dog"], max_bytes=1)
    hook.remove()
    assert set(sizes) == {2}  # one picture, with and without its prompt
    # Rounding may move a pixel by a level.
    torch.testing.assert_close(alone.vectors[0], expected.vectors[1], rtol=0.02, atol=0.02)
    another = make(["cat"], seed=1)
    assert (another.vectors[0] - expected.vectors[0]).abs().max() > 0.02


def test_a_folder_of_other_settings_is_refused(folder, make, tmp_path):
    path, _ = folder
    for options, what in (
        ({"steps": 3}, "pipeline = "),
        ({"points": 2}, "points = 3"),
        ({"seed": 5}, "seed = 0"),
        ({"threshold": 0.5}, "threshold = None"),
        ({"pipeline": tiny_pipeline(seed=9)}, "pipeline = "),
        ({"classes": ["pet = dog"]}, "prompt of 'pet' = 'a cat.'"),
        ({"prompts": ["the {}"]}, "prompt of 'cat' = 'a cat.'"),
    ):
        with pytest.raises(InputError, match=r"^folder: got .*, whose pictures") as refused:
            make(folder=path, **options)
        assert what in str(refused.value)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"^folder: .* holds something else"):
        make(folder=tmp_path)


def test_the_best_fused_mask():
    foreground = torch.zeros(6, 8, dtype=torch.bool)
    foreground[1:5, 1:5] = True
    part, rest, wide, whole = (torch.zeros_like(foreground) for _ in range(4))
    part[1:3, 1:5] = True
    rest[1:5, 1:4] = True
    wide[0:6, 1:6] = True  # holds nine tenths and more of both: they become one with it
    wide[2, 1] = False
    whole[:, 6:] = True

    class Fake:
        def masks_at(self, image, points):
            assert points.tolist() == [[2, 2]]
            return torch.stack([part, whole, rest])[None], torch.ones(1, 3)

    image, points = torch.rand(1, 3, 6, 8), torch.tensor([[2, 2]])
    mask, overlap = _best_mask(Fake(), image, points, foreground)
    assert torch.equal(mask, rest)  # 12 of 16; part and rest share 6 of 8, not nine tenths
    assert overlap == pytest.approx(12 / 16)
    rest[1:3, 1:5] = True  # now part lies in rest
    mask, overlap = _best_mask(Fake(), image, points, foreground)
    assert torch.equal(mask, rest | part)
    assert overlap == pytest.approx(14 / 16)
    assert _best_mask(Fake(), image, points, whole & ~whole | ~(rest | part | whole)) is None


def test_a_threshold_of_ones_own(make, sam):
    """The points lie where the map is above the share of its largest value."""
    seen = []

    def masks_at(image, points):
        seen.append(points)
        return torch.ones(len(points), 1, 32, 32, dtype=torch.bool), torch.ones(len(points), 1)

    make(["cat"], sam=Plain(masks_at), threshold=0.999, images_per_class=1, points=40)
    assert 1 <= len(seen[0]) < 40  # fewer pixels than points are that high


def test_pictures_without_a_mask_are_told_of(make, sam, tmp_path):
    calls = []

    def masks_at(image, points):
        calls.append(image)
        found = sam.masks_at(image, points)
        return found if len(calls) % 3 else (torch.zeros_like(found.masks), found.scores)

    with pytest.warns(lpprop.InputWarning, match=r"got 2 pictures of 6 .* \(2: no mask meets"):
        references = make(sam=Plain(masks_at), folder=tmp_path)
    assert [len(own) for own in references.vectors] == [2, 2]
    assert not (tmp_path / "cat/0002.mask.png").exists()
    assert (tmp_path / "cat/0002.png").exists()
    with pytest.warns(lpprop.InputWarning, match=r"got 2 pictures of 6"):
        assert same(make(sam=Plain(masks_at), folder=tmp_path), references)
    assert len(calls) == 6
    with pytest.raises(InputError, match=r"^classes: got 1 pictures of 'cat', none of which"):
        make(["cat"], sam=Plain(lambda *_: (torch.zeros(1, 1, 32, 32).bool(), torch.ones(1, 1))),
             images_per_class=1)  # fmt: skip


def test_what_cannot_work_is_refused_before_any_work(make, backbone, pipeline, monkeypatch):
    monkeypatch.setattr(type(pipeline), "__call__", lambda *_, **__: pytest.fail("it drew"))
    attention = VisionTransformer(backbone.model, features=None, attention="query-key")
    for options, told in (
        ({"classes": []}, "classes: "),
        ({"classes": ["cat", "hippopotamuses, and more"]}, "classes: got the prompt"),
        ({"prompts": ["two {}s"]}, "prompts: "),
        ({"prompts": ["a cat"]}, "prompts: "),
        ({"pipeline": torch.nn.Identity()}, "pipeline: got Identity"),
        ({"sam": torch.nn.Identity()}, "sam: got Identity"),
        ({"backbone": attention}, "backbone: "),
        ({"images_per_class": 0}, "images_per_class: "),
        ({"steps": 0}, "steps: "),
        ({"guidance": -1}, "guidance: "),
        ({"threshold": 1}, "threshold: "),
        ({"points": 0}, "points: "),
        ({"side": 36}, "side: got 36, expected a multiple of 8. Pass 32."),
        ({"max_bytes": 0}, "max_bytes: "),
        ({"shorter_side": 0}, "shorter_side: "),
        ({"seed": -1}, "seed: "),
    ):
        with pytest.raises(InputError) as refused:
            make(**options)
        assert str(refused.value).startswith(told)


def test_other_sizes(make, backbone):
    seen = []
    hook = backbone.model.embeddings.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].shape[-2:])
    )
    make(["cat"], side=48, shorter_side=60, images_per_class=1)
    hook.remove()
    assert seen == [(64, 64)]  # 60, rounded up to whole patches of 8


def test_pictures_that_are_not_finite_are_refused(make):
    broken = tiny_pipeline()
    broken.vae.decoder.conv_out.bias.data[0] = torch.nan
    with pytest.raises(InputError, match=r"^pipeline: got NaN or infinity in a picture of 'cat'"):
        make(pipeline=broken)


def test_the_pipeline_is_left_as_it_was(make, pipeline):
    pipeline.set_progress_bar_config(desc="mine")
    make(["cat"], images_per_class=1)
    assert pipeline._progress_bar_config == {"desc": "mine"}
    assert not any(module._forward_pre_hooks for module in pipeline.unet.modules())
    pipeline.set_progress_bar_config()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(make, dtype):
    half = tiny_pipeline().to(dtype)
    references = make(["cat"], pipeline=half, images_per_class=1)
    assert references.vectors[0].dtype == torch.float32
    torch.testing.assert_close(references.vectors[0].norm(), torch.tensor(1.0))


def test_names_stay_inside_of_the_folder(make, tmp_path):
    long = "x" * 300
    named = ["../a = cat", ".. = cat", "a/b = cat", f"{long}y = cat", f"{long}z = cat"]
    make(named, folder=tmp_path / "run", images_per_class=1)
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
    made = {file.name for file in (tmp_path / "run").iterdir() if file.is_dir()}
    assert len(made) == 5
    assert not any("/" in name or ".." in name for name in made)


def test_seeds_are_those_of_name_and_number():
    orders = plan_pictures("cat", ["cat"], ["a {}"], seed=0, count=3)
    assert plan_pictures("cat", ["kitten"], ["a {}"], seed=0, count=9)[2].seed == orders[2].seed
    others = [*plan_pictures("dog", ["cat"], ["a {}"], seed=0, count=3)]
    others += plan_pictures("cat", ["cat"], ["a {}"], seed=1, count=3)
    assert len({order.seed for order in orders + others}) == 9
    assert all(0 <= order.seed < 2**53 for order in orders)


def test_masks_at_points_are_those_of_the_model_itself(sam):
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[3, 20], [31, 0], [16, 16]])
    found = sam.masks_at(image, points)
    assert (found.masks.shape, found.masks.dtype) == ((3, 3, 32, 32), torch.bool)
    mean, std = (torch.tensor(x)[:, None, None] for x in (sam._mean, sam._std))
    for point, masks, scores in zip(points, *found, strict=True):
        with torch.no_grad():
            output = sam.model(
                (image - mean) / std, input_points=point.flip(0).float()[None, None, None]
            )
        logits = F.interpolate(output.pred_masks[0], (32, 32), mode="bilinear")
        assert torch.equal(masks, logits[0] > 0)
        torch.testing.assert_close(scores, output.iou_scores[0, 0])
    with pytest.raises(InputError, match=r"^points: got a point outside"):
        sam.masks_at(image, torch.tensor([[3, 32]]))
    with pytest.raises(InputError, match=r"^points: "):
        sam.masks_at(image, torch.tensor([3, 20]))


def test_a_pipeline_is_loaded_whole(pipeline, tmp_path, make):
    pipeline.save_pretrained(tmp_path)
    loaded = load_diffusion_pipeline(tmp_path, download=False)
    assert type(loaded.scheduler) is type(pipeline.scheduler)
    assert (loaded.commit, loaded.safety_checker) == (None, None)
    assert same(make(["cat"], pipeline=loaded), make(["cat"]))
    half = load_diffusion_pipeline(tmp_path, dtype=torch.bfloat16)
    assert {half.unet.dtype, half.vae.dtype, half.text_encoder.dtype} == {torch.bfloat16}

    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(
        json.dumps(index | {"_class_name": "StableDiffusionXLPipeline"})
    )
    with pytest.raises(InputError, match=r"^checkpoint: .* pipeline is 'StableDiffusionXL"):
        load_diffusion_pipeline(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    scheduler = tmp_path / "scheduler/scheduler_config.json"
    whole = scheduler.read_text()
    scheduler.write_text(json.dumps(json.loads(whole) | {"_class_name": "os"}))
    with pytest.raises(InputError, match=r"^checkpoint: .* whose scheduler is 'os'"):
        load_diffusion_pipeline(tmp_path)
    scheduler.write_text("{")
    with pytest.raises(InputError, match=r"^checkpoint: .*scheduler"):
        load_diffusion_pipeline(tmp_path)
    scheduler.write_text(whole)
    (tmp_path / "unet").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"^checkpoint: .*UNet2DConditionModel could not load"):
        load_diffusion_pipeline(tmp_path, download=False)


def test_the_safety_checker_is_loaded_and_heard(tmp_path, make):
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    vision = {
        "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "image_size": 16,
        "num_attention_heads": 2, "patch_size": 8, "projection_dim": 8,
    }  # fmt: skip
    config = transformers.CLIPConfig(vision_config=vision, projection_dim=8)
    checker = StableDiffusionSafetyChecker(config).eval()
    checker.concept_embeds_weights.data.fill_(-2)  # every cosine is above it
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": 16})
    tiny_pipeline(
        safety_checker=checker, feature_extractor=processor, requires_safety_checker=True
    ).save_pretrained(tmp_path)
    loaded = load_diffusion_pipeline(tmp_path, download=False)
    assert isinstance(loaded.safety_checker, StableDiffusionSafetyChecker)
    with pytest.raises(InputError, match=r"none of which .*blackened by the safety checker"):
        make(["cat"], pipeline=loaded)
    loaded.safety_checker.concept_embeds_weights.data.fill_(2)
    loaded.safety_checker.special_care_embeds_weights.data.fill_(2)
    assert same(make(["cat"], pipeline=loaded), make(["cat"]))
