"""Loading by name and from folders: what is on disk is taken, and a hub out of reach is named."""

import sys
import urllib.error

import pytest
import torch

from lpprop import InputError
from lpprop.backbones import hub
from lpprop.backbones.hub import add_stored_colours, load_model, load_tokenizer

transformers = pytest.importorskip("transformers")

# What every call of the packages is given.
ALWAYS = {"output_loading_info": True, "trust_remote_code": False}


@pytest.fixture
def calls(monkeypatch):
    """Stand in for a package: what is asked of it, and answers by `local_files_only`."""
    asked = []

    class Model:
        answers = ()
        missing = ()

        @classmethod
        def from_pretrained(cls, checkpoint, *, local_files_only=False, **options):
            asked.append((checkpoint, local_files_only, options))
            if local_files_only not in cls.answers:
                raise OSError("not\n  here")
            return torch.nn.Linear(1, 1), {"missing_keys": cls.missing, "mismatched_keys": []}

    real = hub.import_extra
    monkeypatch.setattr(
        hub, "import_extra", lambda package, name: Model if name == "Model" else real(package, name)
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "urlopen", lambda *_, **__: pytest.fail("the hub was asked"))
    return Model, asked


def test_files_on_disk_are_used_without_asking_the_hub(calls):
    model, asked = calls
    model.answers = (True,)
    assert isinstance(load_model("any", "Model", "me/model", subfolder="unet"), torch.nn.Linear)
    assert asked == [("me/model", True, {"subfolder": "unet"} | ALWAYS)]


def test_downloads_can_be_switched_off(calls):
    _, asked = calls
    told = (
        r"\(not here\).* no folder here, not wholly downloaded, and downloads are off: allow them"
    )
    with pytest.raises(InputError, match=told):
        load_model("any", "Model", "me/model", download=False)
    assert len(asked) == 1


def test_the_hub_is_asked_once_before_a_download(calls, monkeypatch):
    model, asked = calls
    model.answers = (False,)

    def forbidden(request, timeout):
        asked.append(request.get_method())
        raise urllib.error.HTTPError(request.full_url, 403, "no", {}, None)

    monkeypatch.setattr(hub, "urlopen", forbidden)
    assert isinstance(load_model("any", "Model", "me/model"), torch.nn.Linear)
    assert asked == [("me/model", True, ALWAYS), "HEAD", ("me/model", False, ALWAYS)]


def test_a_hub_out_of_reach_is_one_line(calls, monkeypatch):
    _, asked = calls

    def down(request, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(hub, "urlopen", down)
    told = "no way to http.*no route to host.*run: hf download me/model --local-dir.*can be copied"
    with pytest.raises(InputError, match=told):
        load_model("any", "Model", "me/model")
    assert len(asked) == 1


def test_offline_mode_of_the_hub_is_obeyed(calls, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        load_model("any", "Model", "me/model")


def test_a_folder_is_never_looked_for_on_the_hub(calls, tmp_path):
    with pytest.raises(InputError, match=r"Check config\.json and the weights in the folder"):
        load_model("any", "Model", tmp_path)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install 'lpprop\[models\]'"):
        load_model("diffusers", "UNet2DConditionModel", "me/model")
    with pytest.raises(ImportError, match="NoSuchModel"):
        load_model("transformers", "NoSuchModel", "me/model")


def test_unused_weights_may_be_missing(calls):
    model, _ = calls
    model.answers, model.missing = (True,), ("pooler.dense.weight", "logit_scale")
    assert isinstance(load_model("any", "Model", "me/model"), torch.nn.Linear)
    model.missing = ("pooler.dense.weight", "layers.0.weight")
    with pytest.raises(InputError, match=r"no weights for 1 parts, such as layers\.0\.weight"):
        load_model("any", "Model", "me/model", download=False)


def tiny_vit(**changed):
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = {"num_hidden_layers": 1, "image_size": 32, "patch_size": 16}
    return transformers.ViTModel(transformers.ViTConfig(**(sizes | config | changed)))


def test_a_folder_of_another_kind_is_refused(tmp_path):
    """And not filled up with random weights, as the packages do."""
    tiny_vit().save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=r"^checkpoint: got .*CLIPModel could not load \(it has no"
    ):
        load_model("transformers", "CLIPModel", tmp_path)
    assert load_model("transformers", "AutoModel", tmp_path).config.hidden_size == 8


def test_damaged_weights_are_refused(tmp_path):
    tiny_vit().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"^checkpoint: got .*model\.safetensors: it is cut short"):
        load_model("transformers", "AutoModel", tmp_path)
    weights.write_bytes(whole)
    tiny_vit(intermediate_size=4).config.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"^checkpoint: got .*AutoModel could not load"):
        load_model("transformers", "AutoModel", tmp_path)


def test_a_cached_tokenizer_without_its_vocabulary_is_not_used(calls, monkeypatch):
    """Who has cached a model alone gets such a tokenizer; it is downloaded, and used if whole."""
    asked = []

    class Tokenizer:
        all_special_tokens = ("<|endoftext|>",)

        @classmethod
        def from_pretrained(cls, checkpoint, *, trust_remote_code, local_files_only=False):
            assert trust_remote_code is False
            asked.append(local_files_only)
            return cls()

        def __call__(self, words):
            return {"input_ids": [[0]] * len(words)}

        def get_vocab(self):
            words = {"<|endoftext|>": 0}
            return words if asked[-1] else words | {"a": 1}

    monkeypatch.setattr(hub, "import_extra", lambda *_: Tokenizer)
    monkeypatch.setattr(hub, "find_cached", lambda *_: None)
    monkeypatch.setattr(hub, "find_folder", lambda *_: None)
    with pytest.raises(InputError, match=r"^checkpoint: .*no vocabulary.*downloads are off"):
        load_tokenizer("me/model", download=False)
    monkeypatch.setattr(hub, "_check_hub", lambda _: asked.append("hub"))
    assert isinstance(load_tokenizer("me/model"), Tokenizer)
    assert asked == [True, True, "hub", False]


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The cache of the hub, with the folders of a repository in it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--me--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0a1b")
    for kind in ("snapshots", ".no_exist"):
        (repository / kind / "0a1b").mkdir(parents=True)
    return repository


COLOURS = "preprocessor_config.json"


@pytest.fixture
def downloads(calls, monkeypatch, tmp_path):
    """What is asked of the hub, and the answer: a file or an error."""
    import huggingface_hub

    asked = []

    def fetch(checkpoint, name):
        asked.append(name)
        if isinstance(fetch.answer, Exception):
            raise fetch.answer
        return str(fetch.answer)

    fetch.asked = asked
    fetch.answer = tmp_path / "downloaded.json"
    fetch.answer.write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    return fetch


def test_colours_among_the_options_are_enough(downloads):
    both = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    assert add_stored_colours(both, "me/model") == both
    assert not downloads.asked


def test_colours_in_the_cache_are_used_without_asking_the_hub(cache, downloads):
    (cache / "snapshots" / "0a1b" / COLOURS).write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    assert add_stored_colours({"std": (1, 1, 1)}, "me/model") == {
        "mean": [0.5, 0.5, 0.5],
        "std": (1, 1, 1),
    }
    assert not downloads.asked


@pytest.mark.parametrize("download", [False, True])
def test_the_hub_is_not_asked_again_for_colours_that_it_does_not_have(cache, downloads, download):
    (cache / ".no_exist" / "0a1b" / COLOURS).touch()
    assert add_stored_colours({}, "me/model", download=download) == {}
    assert not downloads.asked


@pytest.mark.usefixtures("cache")
def test_colours_that_are_not_in_the_cache_are_downloaded(downloads, monkeypatch):
    with pytest.raises(InputError, match=r"^mean: got None.*or allow downloads"):
        add_stored_colours({}, "me/model", download=False)
    assert not downloads.asked
    monkeypatch.setattr(hub, "_check_hub", lambda _: downloads.asked.append("hub"))
    assert add_stored_colours({}, "me/model") == {"mean": [0.5, 0.5, 0.5]}
    assert downloads.asked == ["hub", COLOURS]
