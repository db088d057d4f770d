"""Checkpoints from elsewhere: none of their code runs, damage is named, the commit is known."""

import io
import json
import shutil
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpprop import InputError
from lpprop.backbones import MaskCLIP, StableDiffusion, VisionTransformer
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.vision_transformer import CHECKPOINTS

transformers = pytest.importorskip("transformers")

CONFIG, WEIGHTS, COLOURS = "config.json", "model.safetensors", "preprocessor_config.json"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = {"num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    model = transformers.ViTModel(transformers.ViTConfig(**sizes, **config))
    model.save_pretrained(folder)
    (folder / COLOURS).write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "vit"))


def edit(file, **changed):
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


def refused(folder, **options):
    with pytest.raises(InputError) as error:
        VisionTransformer.from_pretrained(folder, **options)
    return str(error.value)


CODE = """
open({marker!r}, "w").write("it ran")
from transformers import ViTConfig, ViTModel

class OwnConfig(ViTConfig):
    model_type = "own"

class OwnModel(ViTModel):
    config_class = OwnConfig
"""


@pytest.mark.parametrize("kind", [VisionTransformer, MaskCLIP])
@pytest.mark.parametrize("model_type", ["own", "vit"])
def test_code_of_a_checkpoint_never_runs(folder, kind, model_type, tmp_path, monkeypatch, capsys):
    marker = tmp_path / "marker"
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    owned = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    edit(folder / CONFIG, model_type=model_type, auto_map=owned)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 20))
    if model_type == "vit" and kind is VisionTransformer:  # the library has this class itself
        kind.from_pretrained(folder)
    else:
        with pytest.raises(InputError) as error:
            kind.from_pretrained(folder)
        assert "trust_remote_code" not in str(error.value)
        if kind is VisionTransformer:
            assert "config.json: the model needs Python code that comes with it" in str(error.value)
            assert "load the model yourself and pass it to the class" in str(error.value)
    assert not marker.exists()
    assert "custom code" not in capsys.readouterr().out


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("kernel", ["somebody/attention", "flash_attention_2", "paged|eager"])
def test_compiled_code_from_the_hub_never_runs(folder, key, kernel):
    edit(folder / CONFIG, **{key: kernel})
    assert f"config.json: it asks for other code, {kernel!r}, as its attention" in refused(folder)
    edit(folder / CONFIG, **{key: None, "vision_config": {key: kernel}})
    assert "it asks for other code" in refused(folder)


def test_code_beside_a_model_that_the_library_has_never_runs(tmp_path, monkeypatch):
    """In every configuration that may name code: the model's, the tokenizer's, the images'."""
    from test_clip import tiny_model, tiny_tokenizer

    tokenizer, folder, marker = tiny_tokenizer(), tmp_path / "clip", tmp_path / "marker"
    tiny_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / COLOURS).write_text("{}")
    (folder / "own.py").write_text(CODE.format(marker=str(marker)))
    kinds = ("Config", "Model", "ImageProcessor", "Processor", "Tokenizer")
    owned = {f"Auto{kind}": "own.OwnModel" for kind in kinds}
    for file in folder.glob("*config.json"):
        edit(file, auto_map=owned)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 20))
    backbone = MaskCLIP.from_pretrained(folder, templates=["a {}"])
    assert backbone(torch.rand(1, 3, 32, 32), ["cat", "dog"]).logits.shape[1] == 2
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model_max_length": [77]}, "CLIPTokenizer could not load"),
        ({"eos_token": "<|unheard|>"}, "tokenizer: got one that makes the token"),
        ({"eos_token": 3}, "CLIPTokenizer could not load"),
    ],
)
def test_a_damaged_tokenizer_is_refused(tmp_path, changed, message):
    from test_clip import tiny_model, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / COLOURS).write_text("{}")
    edit(tmp_path / "tokenizer_config.json", **changed)
    with pytest.raises(InputError) as error:
        MaskCLIP.from_pretrained(tmp_path, templates=["a {}"]).text_embeddings(["cat"])
    assert message in str(error.value)


class Payload:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_objects_are_not_loaded(folder, tmp_path, zipped):
    marker = tmp_path / "marker"
    states = load_file(folder / WEIGHTS) | {"payload": Payload(marker)}
    (folder / WEIGHTS).unlink()
    torch.save(states, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    message = refused(folder)
    assert not marker.exists()
    assert "pytorch_model.bin: it " in message
    assert "weights_only" not in message
    assert not zipped or "holds Python objects beside weights" in message


def test_a_plain_pickle_of_weights_loads(folder):
    expected = VisionTransformer.from_pretrained(folder)(torch.full((1, 3, 32, 32), 0.3))
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    found = VisionTransformer.from_pretrained(folder)(torch.full((1, 3, 32, 32), 0.3))
    assert torch.equal(found.feats, expected.feats)


def cut(file, part=0.5):
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])


def nested(depth=200_000):
    return '{"a":' + "[" * depth + "]" * depth + "}"


def poison(folder, value, name="layernorm.weight"):
    states = load_file(folder / WEIGHTS)
    states[name][:] = value
    save_file(states, folder / WEIGHTS, metadata={"format": "pt"})


def as_pickle(folder, part):
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    cut(folder / "pytorch_model.bin", part)


def without(folder, name):
    states = load_file(folder / WEIGHTS)
    del states[name]
    save_file(states, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: cut(f / WEIGHTS), "model.safetensors: it is cut short or damaged"),
        (lambda f: cut(f / WEIGHTS, 0), "model.safetensors: it is cut short or damaged"),
        (lambda f: cut(f / WEIGHTS, 0.001), "model.safetensors: it is cut short or damaged"),
        (
            lambda f: (f / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid"),
            "model.safetensors: it is a pointer of Git LFS, not the weights",
        ),
        (lambda f: as_pickle(f, 0.5), "pytorch_model.bin: it is cut short or damaged"),
        (lambda f: as_pickle(f, 0.0), "pytorch_model.bin: it is cut short or damaged"),
        (
            lambda f: poison(f, torch.nan),
            "model.safetensors: there is NaN or infinity in layernorm.weight",
        ),
        (lambda f: poison(f, -torch.inf), "NaN or infinity in layernorm.weight"),
        (lambda f: without(f, "layernorm.weight"), "no weights for 1 parts, such as layernorm"),
        (lambda f: (f / WEIGHTS).unlink(), "no file named model.safetensors"),
        (lambda f: (f / CONFIG).unlink(), "could not load"),
        (lambda f: cut(f / CONFIG), "config.json: it is no JSON"),
        (lambda f: (f / CONFIG).write_text("[]"), "config.json: it holds list, not an object"),
        (lambda f: (f / CONFIG).write_text("null"), "config.json: it holds NoneType"),
        (lambda f: (f / CONFIG).write_text(nested()), "config.json: it is nested too deeply"),
        (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe{"), "config.json: it is no JSON"),
        (
            lambda f: (f / CONFIG).write_text("\ufeff" + (f / CONFIG).read_text()),
            "config.json: it begins with a byte order mark",
        ),
        (lambda f: edit(f / CONFIG, patch_size=0), "could not load"),
        (lambda f: edit(f / CONFIG, patch_size="x"), "'patch_size'"),
        (lambda f: edit(f / CONFIG, hidden_size=[8]), "'hidden_size'"),
        (
            lambda f: edit(f / CONFIG, hidden_size=16),
            "config.json: the weights have other shapes than it says",
        ),
        (lambda f: edit(f / CONFIG, model_type=3), "could not load"),
        (
            lambda f: edit(f / CONFIG, num_hidden_layers=10**6),
            "config.json: num_hidden_layers is 1000000",
        ),
        (lambda f: edit(f / CONFIG, num_channels=10**6), "config.json: num_channels is 1000000"),
        (
            lambda f: edit(f / CONFIG, quantization_config={"quant_method": "awq", "bits": 4}),
            "could not load",
        ),
        (lambda f: edit(f / CONFIG, quantization_config=7), "could not load"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # the packages' own, of a file that is refused
def test_damage_is_one_error_that_names_the_file(folder, damage, message):
    damage(folder)
    told = refused(folder)
    assert message in told
    assert told.startswith("checkpoint: got ")
    for advice in ("weights_only", "trust_remote_code", "ignore_mismatched_sizes"):
        assert advice not in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image_std": [0, 0.2, 0.2]}', "image_std is [0, 0.2, 0.2], expected three usable"),
        ('{"image_std": [NaN, 0.2, 0.2]}', "image_std is [nan"),
        ('{"image_std": [1e999, 0.2, 0.2]}', "image_std is [inf"),
        ('{"image_std": [1e-30, 1e-30, 1e-30]}', "image_std is [1e-30"),
        ('{"image_std": [-0.2, 0.2, 0.2]}', "image_std is [-0.2"),
        ('{"image_std": [0.2, 0.2]}', "image_std is [0.2, 0.2]"),
        ('{"image_std": 0.2}', "image_std is 0.2"),
        ('{"image_mean": [null, null, null]}', "image_mean is [None"),
        ('{"image_mean": ["0.5", "0.5", "0.5"]}', "image_mean is ['0.5'"),
        ('{"image_mean": "0.5"}', "image_mean is 0.5"),
        ('{"image_mean": {"r": 0.5}}', "image_mean is {'r'"),
        ('{"image_mean": [123.7, 116.3, 103.5]}', "image_mean is [123.7"),
        ('{"image_mean": [true, true, true]}', "image_mean is [True"),
        ('{"do_normalize": "no"}', "do_normalize is no, expected true or false"),
        ("null", "it holds NoneType, not an object"),
        ("[]", "it holds list, not an object"),
        ("", "it is no JSON"),
        ('\ufeff{"image_std": [0.2, 0.2, 0.2]}', "it begins with a byte order mark"),
        (nested(), "it is nested too deeply"),
    ],
)
def test_colours_that_cannot_be_used_are_one_error_that_names_the_file(folder, content, message):
    (folder / COLOURS).write_text(content, encoding="utf-8")
    told = refused(folder)
    assert told.startswith("checkpoint: got ")
    assert f"{COLOURS}: {message}" in told
    both = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    VisionTransformer.from_pretrained(folder, **both)  # and then the file is not read


def test_weights_of_huge_values_do_not_pass_as_features(folder):
    poison(folder, 3e38)
    backbone = VisionTransformer.from_pretrained(folder, features="token")
    with pytest.raises(
        InputError, match=r"^model: got NaN or infinity in the feats of VisionTrans"
    ):
        backbone(torch.full((1, 3, 32, 32), 0.3))


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize(
    "values",
    [(torch.nan,) * 3, (torch.inf,) * 3, (0.5, 0.5), (0.5,) * 4, 0.5, "abc", (124, 116, 104)],
)
def test_colours_in_python_are_checked(folder, name, values):
    with pytest.raises(InputError, match=f"^{name}"):
        VisionTransformer.from_pretrained(folder, **{name: values})


def test_a_zero_std_would_make_nan_of_features(folder):
    with pytest.raises(InputError, match=r"^std\[1\]: got 0.0, expected a number in \[0.001, 1\]"):
        VisionTransformer.from_pretrained(folder, std=(0.5, 0.0, 0.5))
    for kind in (list, torch.tensor):
        backbone = VisionTransformer.from_pretrained(folder, std=kind((0.5, 0.25, 1.0)))
        assert backbone._std == (0.5, 0.25, 1.0)


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        (Path("weights/dino"), "the folder 'weights/dino', which does not exist"),
        ("./dino", "the folder './dino', which does not exist"),
        ("/nowhere/dino/base", "the folder '/nowhere/dino/base', which does not exist"),
        ("~/nowhere", "the folder '~/nowhere', which does not exist"),
        ("../dino", "the folder '../dino', which does not exist"),
        ("dino-vitb17", "got 'dino-vitb17', expected 'dino-vitb16', 'dino-vitb8', 'dinov2-vits14'"),
        ("dino-vitb17", "Did you mean dino-vitb16?"),
        ("", "got '', expected"),
        (3, "got int, expected"),
        (None, "got NoneType, expected"),
        (b"dino-vitb16", "got bytes, expected"),
    ],
)
def test_what_a_missing_checkpoint_is(checkpoint, message):
    with pytest.raises(InputError) as error:
        VisionTransformer.from_pretrained(checkpoint)
    assert message in str(error.value)
    assert "downloaded" not in str(error.value)


def test_a_file_is_no_folder(folder):
    told = refused(folder / WEIGHTS)
    assert f"Pass the folder that holds the file: {str(folder)!r}." in told


def test_short_names():
    assert find_checkpoint("dinov2-vits14", CHECKPOINTS) == "facebook/dinov2-small"
    assert find_checkpoint("owner/name", CHECKPOINTS) == "owner/name"


COMMIT = "0a1b2c3d4e" * 4


@pytest.fixture
def cache(saved, monkeypatch, tmp_path):
    """The cache of the hub with two commits of a repository, main and an older one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("lpprop.backbones.hub.urlopen", lambda *_, **__: pytest.fail("asked"))
    repository = tmp_path / "models--me--vit"
    for commit in (COMMIT, "f" * 40):
        shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("f" * 40)
    poison(repository / "snapshots" / COMMIT, 7.0)
    edit(repository / "snapshots" / COMMIT / COLOURS, image_mean=[0.25] * 3)
    return repository


def test_a_revision_is_what_is_loaded_and_recorded(cache, saved):
    newest = VisionTransformer.from_pretrained("me/vit")
    pinned = VisionTransformer.from_pretrained("me/vit", revision=COMMIT)
    assert (newest.commit, pinned.commit) == ("f" * 40, COMMIT)
    assert (newest._mean, pinned._mean) == ((0.5,) * 3, (0.25,) * 3)
    assert pinned.model.layernorm.weight[0] == 7.0 != newest.model.layernorm.weight[0]
    assert VisionTransformer.from_pretrained(saved).commit is None
    assert f"commit={COMMIT}" in repr(pinned)


def test_the_commit_is_part_of_what_results_record(cache):
    from lpprop.evaluation.fingerprints import model_fingerprint

    fingerprint = model_fingerprint(VisionTransformer.from_pretrained("me/vit", revision=COMMIT))
    assert fingerprint["settings"]["commit"] == COMMIT


@pytest.mark.parametrize("revision", ["", 3, b"main"])
def test_bad_revisions_are_refused(folder, revision):
    with pytest.raises(InputError, match=r"^revision: got"):
        VisionTransformer.from_pretrained("me/vit", revision=revision)
    with pytest.raises(InputError, match=r"^revision: got .* beside a folder"):
        VisionTransformer.from_pretrained(folder, revision="main")


def test_an_unknown_revision_is_not_the_newest(cache):
    with pytest.raises(InputError, match="downloads are off"):
        VisionTransformer.from_pretrained("me/vit", revision="e" * 40, download=False)


def test_damage_in_the_cache_is_named_without_asking_the_hub(cache):
    file = cache / "snapshots" / COMMIT / WEIGHTS
    cut(file)
    told = refused("me/vit", revision=COMMIT)
    assert f"{file}: it is cut short or damaged" in told


def test_weights_on_disk_send_nothing_to_the_hub(cache, monkeypatch):
    """For a pickle of weights transformers asks the hub for a converted one, in a thread."""
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda thread: (started.append(thread.name), start(thread))
    )
    convert = "transformers.modeling_utils.auto_conversion"
    monkeypatch.setattr(convert, lambda *_, **__: None)
    as_pickle(cache / "snapshots" / COMMIT, 1.0)
    VisionTransformer.from_pretrained("me/vit", revision=COMMIT, download=False)
    assert "Thread-auto_conversion" not in started


def test_all_parts_come_from_one_commit(monkeypatch):
    """While the parts are loaded, somebody may push: the others come from the first one's."""
    asked = []

    def load_model(package, name, **options):
        asked.append((name, options["revision"]))
        if name == "CLIPTextModel":
            raise InputError("enough")

    module = "lpprop.backbones.stable_diffusion"
    monkeypatch.setattr(f"{module}.load_model", load_model)
    monkeypatch.setattr(f"{module}.find_commit", lambda *_: COMMIT)
    with pytest.raises(InputError, match="enough"):
        StableDiffusion.from_pretrained("me/sd", revision="v1")
    assert asked == [
        ("AutoencoderKL", "v1"),
        ("UNet2DConditionModel", COMMIT),
        ("CLIPTextModel", COMMIT),
    ]
