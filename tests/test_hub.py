"""Loading by name and from folders: what is on disk is taken, and a hub out of reach is named."""

import sys
import urllib.error

import pytest

from lpprop import InputError
from lpprop.backbones import hub
from lpprop.backbones.hub import load_pretrained

transformers = pytest.importorskip("transformers")


@pytest.fixture
def calls(monkeypatch):
    """Stand in for a package: what is asked of it, and answers by `local_files_only`."""
    asked = []

    class Model:
        answers = ()

        @classmethod
        def from_pretrained(cls, checkpoint, *, local_files_only=False, **options):
            asked.append((checkpoint, local_files_only, options))
            if local_files_only not in cls.answers:
                raise OSError("not\n  here")
            return "weights"

    real = hub.model_class
    monkeypatch.setattr(
        hub, "model_class", lambda package, name: Model if name == "Model" else real(package, name)
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "urlopen", lambda *_, **__: pytest.fail("the hub was asked"))
    return Model, asked


def test_what_is_on_disk_is_taken_without_a_look_at_the_hub(calls):
    model, asked = calls
    model.answers = (True,)
    assert load_pretrained("any", "Model", "me/model", subfolder="unet") == "weights"
    assert asked == [("me/model", True, {"subfolder": "unet"})]


def test_downloads_are_off_where_asked(calls):
    _, asked = calls
    with pytest.raises(InputError, match=r"\(not here\).* downloads are off: pass download=True"):
        load_pretrained("any", "Model", "me/model", download=False)
    assert len(asked) == 1


def test_the_hub_is_asked_once_before_a_download(calls, monkeypatch):
    model, asked = calls
    model.answers = (False,)

    def forbidden(request, timeout):
        asked.append(request.get_method())
        raise urllib.error.HTTPError(request.full_url, 403, "no", {}, None)

    monkeypatch.setattr(hub, "urlopen", forbidden)
    assert load_pretrained("any", "Model", "me/model") == "weights"
    assert asked == [("me/model", True, {}), "HEAD", ("me/model", False, {})]


def test_a_hub_out_of_reach_is_one_line(calls, monkeypatch):
    _, asked = calls

    def down(request, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(hub, "urlopen", down)
    with pytest.raises(InputError, match=r"no way to http.*no route to host.*pass the folder"):
        load_pretrained("any", "Model", "me/model")
    assert len(asked) == 1


def test_offline_mode_of_the_hub_is_obeyed(calls, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        load_pretrained("any", "Model", "me/model")


def test_a_folder_is_never_looked_for_on_the_hub(calls, tmp_path):
    with pytest.raises(InputError, match="Check what is in the folder"):
        load_pretrained("any", "Model", tmp_path)


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install 'lpprop\[models\]'"):
        load_pretrained("diffusers", "UNet2DConditionModel", "me/model")
    with pytest.raises(ImportError, match="NoSuchModel"):
        load_pretrained("transformers", "NoSuchModel", "me/model")
