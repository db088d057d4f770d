"""The attention to a word against the U-Net's own layers, on a tiny model with random weights."""

import pytest
import torch
import torch.nn.functional as F

from lpprop import InputError

pytest.importorskip("diffusers", reason="the extra models is not installed")
pytest.importorskip("transformers", reason="the extra models is not installed")

from lpprop.backbones.cross_attention import watch_words, word_positions
from tiny_diffusion import tiny_pipeline, tiny_tokenizer

TEMPLATE = "a {}."
WORDS = ["cat", "cow"]


@pytest.fixture(scope="module")
def pipeline():
    made = tiny_pipeline()
    made.set_progress_bar_config(disable=True)
    return made


def draw(pipeline, words=WORDS, guidance=7.5, **options):
    generators = [torch.Generator().manual_seed(number) for number in range(len(words))]
    return pipeline(
        [TEMPLATE.format(word) for word in words], num_inference_steps=3, generator=generators,
        guidance_scale=guidance, output_type="pt", **options,
    ).images  # fmt: skip


def positions(pipeline, words=WORDS):
    return [word_positions(pipeline.tokenizer, TEMPLATE, word) for word in words]


def by_hand(pipeline, stages, **options):
    """The maps of all layers in float64, from what to_q and to_k gave in a run of the model."""
    layers = [
        block.attn2
        for stage in stages
        for transformer in stage.attentions
        for block in transformer.transformer_blocks
    ]
    given, handles = {}, []
    for layer in layers:
        for name in ("to_q", "to_k"):
            kept = given.setdefault((layer, name), [])
            hook = getattr(layer, name).register_forward_hook(
                lambda _, __, output, kept=kept: kept.append(output.double())
            )
            handles.append(hook)
    draw(pipeline, **options)
    for handle in handles:
        handle.remove()
    maps = []
    for layer in layers:
        for q, k in zip(given[layer, "to_q"], given[layer, "to_k"], strict=True):
            width = q.shape[-1] // layer.heads
            for picture in range(len(WORDS)):
                row = picture - len(WORDS)  # the prompts come after the empty ones
                heads = []
                for head in range(layer.heads):
                    part = slice(head * width, (head + 1) * width)
                    products = q[row, :, part] @ k[row, :, part].T / width**0.5
                    heads.append(products.exp() / products.exp().sum(-1, keepdim=True))
                maps.append((picture, sum(heads) / layer.heads))
    return maps


@pytest.mark.parametrize(("guidance", "grid"), [(7.5, (8, 8)), (1.0, (8, 12))])
def test_one_stride_against_its_layers(pipeline, guidance, grid):
    unet = pipeline.unet
    options = {"guidance": guidance, "height": 4 * grid[0], "width": 4 * grid[1]}
    maps = by_hand(pipeline, [unet.down_blocks[1], unet.up_blocks[1]], **options)
    with watch_words(unet, positions(pipeline), strides=[2]) as watched:
        draw(pipeline, **options)
    got = watched.maps(grid)
    for picture, place in enumerate(positions(pipeline)):
        own = [seen[:, place].sum(-1) for number, seen in maps if number == picture]
        assert len(own) == 3 * 3  # steps, and layers: one on the way down, two on the way up
        expected = (sum(own) / len(own)).reshape(grid).float()
        torch.testing.assert_close(got[picture], expected, rtol=1e-4, atol=1e-6)


def test_strides_are_averaged_layer_by_layer_at_the_size_that_is_asked_for(pipeline):
    maps = {}
    for strides in ([2], [4], [2, 4]):
        with watch_words(pipeline.unet, positions(pipeline), strides=strides) as watched:
            draw(pipeline)
        maps[tuple(strides)] = watched
    # Stride 4 has four layers: the middle too.
    fine, coarse = maps[2,].maps((8, 8)), maps[4,].maps((4, 4))
    resized = [
        F.interpolate(x[:, None], (32, 32), mode="bilinear", align_corners=False)[:, 0]
        for x in (fine, coarse)
    ]
    expected = (3 * resized[0] + 4 * resized[1]) / 7
    torch.testing.assert_close(maps[2, 4].maps((32, 32)), expected)


def test_all_tokens_together_get_all_of_the_attention(pipeline):
    with watch_words(pipeline.unet, [range(16)] * 2, strides=[1, 2, 4]) as watched:
        draw(pipeline)
    torch.testing.assert_close(watched.maps((32, 32)), torch.ones(2, 32, 32))


def test_a_map_is_that_of_its_own_picture(pipeline):
    with watch_words(pipeline.unet, positions(pipeline)) as together:
        draw(pipeline)
    with watch_words(pipeline.unet, positions(pipeline, ["cat"])) as alone:
        draw(pipeline, ["cat"])
    torch.testing.assert_close(alone.maps((32, 32))[0], together.maps((32, 32))[0])
    assert (together.maps((32, 32))[1] - together.maps((32, 32))[0]).abs().max() > 1e-2


def test_the_pictures_are_those_without_a_watch(pipeline):
    expected = draw(pipeline)
    with watch_words(pipeline.unet, positions(pipeline)):
        assert torch.equal(draw(pipeline), expected)
    with pytest.raises(ArithmeticError), watch_words(pipeline.unet, positions(pipeline)):
        raise ArithmeticError
    assert not any(module._forward_pre_hooks for module in pipeline.unet.modules())


def test_wrong_use_is_refused(pipeline):
    unet = pipeline.unet
    with pytest.raises(InputError, match=r"^strides: got \(3,\), expected some of 1, 2, 4"):
        watch_words(unet, [[1]], strides=(3,)).__enter__()
    for none in ([], [[1], []]):
        with pytest.raises(InputError, match=r"^positions: .* at least one token per picture"):
            watch_words(unet, none).__enter__()
    with watch_words(unet, [[1]] * 3) as watched:
        with pytest.raises(InputError, match=r"^maps: got a U-Net that has not run"):
            watched.maps((4, 4))
        with pytest.raises(InputError, match=r"^positions: .* 3 pictures, .* runs on 4"):
            draw(pipeline)


@pytest.mark.parametrize(
    ("template", "word", "expected"),
    [
        ("a {}", "cat", [2]),
        ("a cat of a {}.", "cat", [6]),  # not the one in the template
        ("{} and a cat", "cat", [1]),
        ("a {}", "hot dog", [2, 3, 4, 5]),
        ("a {},", "Owl", [2, 3, 4]),
    ],
)
def test_places_of_a_word(template, word, expected):
    tokenizer = tiny_tokenizer()
    assert word_positions(tokenizer, template, word) == expected
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(template.format(word)).input_ids)
    spelt = "".join(tokens[place] for place in expected).replace("</w>", " ")
    assert spelt.strip() == word.lower()


def test_words_that_have_no_place_of_their_own_are_refused():
    tokenizer = tiny_tokenizer()
    with pytest.raises(InputError, match=r"^prompts: got 'two cats', .* 'cat' are not found"):
        word_positions(tokenizer, "two {}s", "cat")
    with pytest.raises(InputError, match=r"^prompts: .*one"):
        word_positions(tokenizer, "a cat", "cat")
    with pytest.raises(InputError, match=r"^classes: got the prompt .* of 18 tokens, .* most 16"):
        word_positions(tokenizer, "a {}", "hippopotamuses,")
