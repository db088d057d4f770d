"""The folder that can be pushed to a Hugging Face Space as it is; test_app_api.py runs its app."""

import re
import tomllib
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
SPACE = ROOT / "space"
README = (SPACE / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Of the reference of the header, https://huggingface.co/docs/hub/spaces-config-reference.
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
KEYS = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file",
    "pinned", "license", "short_description", "tags",
}  # fmt: skip


@pytest.fixture(scope="module")
def header():
    text = re.match(r"---\n(.*?)\n---\n", README, re.DOTALL).group(1)
    return yaml.safe_load(text)


def test_the_header(header):
    assert header.keys() == KEYS
    assert {header["colorFrom"], header["colorTo"]} <= COLOURS
    assert re.fullmatch(r"\W", header["emoji"])
    assert len(header["short_description"]) <= 60
    assert header["license"] == PROJECT["license"].lower()
    assert (SPACE / header["app_file"]).is_file()
    assert header["pinned"] is False


def test_the_hub_reads_the_header_so(header):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.SpaceCard(README)
    assert {key: value for key, value in card.data.to_dict().items() if value is not None} == header
    assert card.text.strip().startswith("# lpprop")


def test_the_versions_are_those_of_the_package(header):
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"gradio=={header['sdk_version']}" in pins
    (wanted,) = (x for x in PROJECT["optional-dependencies"]["app"] if x.startswith("gradio"))
    lowest = re.fullmatch(r"gradio>=(\d+\.\d+),<\d+", wanted).group(1)
    assert header["sdk_version"].startswith(f"{lowest}.")
    assert PROJECT["requires-python"] == f">={header['python_version']}"
    (line,) = (SPACE / "requirements.txt").read_text().splitlines()
    assert re.fullmatch(r"lpprop\[app\]>=\d+\.\d+", line)


def test_the_folder_holds_what_the_page_says_and_needs_nothing_else():
    assert {path.name for path in SPACE.iterdir() if path.name != "__pycache__"} == {
        "README.md", "app.py", "packages.txt", "requirements.txt"
    }  # fmt: skip
