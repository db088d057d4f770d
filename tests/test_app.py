"""What the web app does behind its page: starts, layers, downloads, and what the canvas sends.

None of it needs Gradio but the last part, which builds the page.
"""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop import InputError, cli
from lpprop.app import layers as layers_module
from lpprop.app.canvas import Marked, layer_props, picture_props, write_value
from lpprop.app.examples import available_examples, load_example
from lpprop.app.layers import MOST_METHODS, Layer, check_methods, draw_labels, make_layers
from lpprop.app.limits import Limits
from lpprop.app.models import Models
from lpprop.app.option_fields import read_options, reset_options
from lpprop.app.picture import Picture
from lpprop.app.session import CLICKS, DOWNLOADS, WORDS, Session, Wish
from lpprop.app.starts import ByClicks, ByWords
from lpprop.interaction.clicks import Clicks
from lpprop.interaction.controls import controls
from lpprop.viz.palettes import colours

pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")

STATIC = Path(lpprop.__file__).parent / "app" / "static"
SIZE = 64, 96
POINTS = ((10, 12, 0), (50, 80, 1))


@pytest.fixture(scope="module")
def models():
    return Models()


@pytest.fixture(scope="module")
def picture():
    """Two halves of different colours and texture."""
    pixels = np.random.default_rng(0).integers(0, 60, (*SIZE, 3), dtype=np.uint8)
    pixels[:, 48:, 0] += 180
    return Picture(Image.fromarray(pixels))


@pytest.fixture
def clicks():
    return ByClicks(Clicks(POINTS), ("left", "right"), "offline")


def wish(**changes):
    fields = Wish(
        mode=CLICKS, marked="", features="offline", words="", recipe="offline",
        methods=["bilinear"], options={}, background=0,
    )  # fmt: skip
    return fields._replace(**changes)


def marked(picture, points=POINTS, names=("left", "right")):
    return write_value(names, points, picture.key)


def run(code, picture, folder, monkeypatch):
    """Run lines that read picture.jpg, and return what they leave."""
    picture.image.save(folder / "picture.jpg", "PNG")  # is read by what it holds
    monkeypatch.chdir(folder)
    left = {}
    exec(code, left)
    return left


class TestClicks:
    @pytest.mark.parametrize(
        ("method", "options"), [("clicks", {}), ("lposs", {"k": 9}), ("region_vote", {})]
    )
    def test_they_are_refined_as_by_hand(self, clicks, models, picture, method, options):
        seen = lpprop.backbones.EfficientNetLite0()(picture.image)
        start = lpprop.seed_logits(
            [point[:2] for point in POINTS], [0, 1], SIZE, grid=tuple(seen.feats.shape[-2:])
        )
        regions = {"regions": "felzenszwalb"} if method == "region_vote" else {}
        expected = lpprop.refine(
            start, seen.feats, picture.image, method=method, **regions, **options
        )
        found = clicks.refine(picture, models, method, options)
        assert found.names == ["left", "right"]
        assert torch.equal(found.scores, expected[0])

    @pytest.mark.parametrize("background", [None, 0.7])
    def test_their_code_does_the_same(
        self, clicks, models, picture, background, tmp_path, monkeypatch
    ):
        code = clicks.code(picture, models, "lposs+regions", {"k": 9}, background)
        left = run(code, picture, tmp_path, monkeypatch)
        found = clicks.refine(picture, models, "lposs+regions", {"k": 9}, background)
        assert torch.equal(left["labels"], found.scores.argmax(0))
        assert found.scores.shape[0] == 2 + (background is not None)

    def test_the_code_makes_a_picture_small_that_was_made_small(self, clicks, models, picture):
        small = Picture(picture.image, scaled=True)
        assert ".resize((96, 64))" in clicks.code(small, models, "bilinear", {})
        assert "resize" not in clicks.code(picture, models, "bilinear", {})

    def test_names_are_quoted_in_the_code(self, models, picture):
        hostile = 'a"""\nimport os\n# \\'
        start = ByClicks(Clicks(POINTS), (hostile, "right"), "offline")
        code = start.code(picture, models, "bilinear", {})
        assert "\nimport os" not in code
        compile(code, "code", "exec")

    def test_none_are_refused(self, models, picture):
        with pytest.raises(InputError, match="clicks: got none"):
            ByClicks(Clicks(), ("left", "right"), "offline").refine(picture, models, "auto", {})


class TestWords:
    @pytest.mark.parametrize(
        ("text", "classes"),
        [
            ("cat; lynx\n\n sofa ", ("cat; lynx", "sofa")),
            ("cat, sofa", ("cat", "sofa")),
            ("cat, lynx\nsofa", ("cat, lynx", "sofa")),  # a comma within lines belongs to the name
            ("", ()),
        ],
    )
    def test_text_to_classes(self, text, classes):
        assert ByWords.parse(text, "offline").classes == classes

    @pytest.mark.parametrize("text", ["", "cat", "\n \n"])
    def test_fewer_than_two_are_refused(self, models, picture, text):
        with pytest.raises(InputError, match="classes: got"):
            ByWords.parse(text, "offline").refine(picture, models, "bilinear", {})

    @pytest.mark.parametrize(
        ("method", "options", "background"),
        [
            ("bilinear", {}, None),
            ("lposs+regions", {"k": 5}, 0.6),
            ("pamr", {"iterations": 2}, 0.5),
        ],
    )
    def test_they_do_what_their_code_does(
        self, models, picture, method, options, background, tmp_path, monkeypatch
    ):
        start = ByWords.parse("cat; lynx\nsofa\n'n' = banana", "offline")
        code = start.code(picture, models, method, options, background)
        left = run(code, picture, tmp_path, monkeypatch)
        found = start.refine(picture, models, method, options, background)
        assert found.names == left["names"]
        assert torch.equal(found.scores, left["scores"][0])


class TestPicture:
    def test_a_network_sees_it_once(self, picture):
        calls = []

        def model(image, *classes):
            calls.append(classes)
            return len(calls)

        own = Picture(picture.image)
        assert own.see(model) == own.see(model) == 1
        assert own.see(model, torch.zeros(1, 3, 8, 8)) == 2
        assert own.see(model, torch.zeros(1, 3, 8, 8), ["cat"]) == 3
        assert own.see(model, torch.zeros(1, 3, 8, 8), ["dog"]) == 4
        assert own.see(model) == 5  # the oldest was forgotten
        assert calls == [(), (), (["cat"],), (["dog"],), ()]

    def test_its_regions_are_those_of_the_proposer(self, picture):
        image = torch.from_numpy(np.array(picture.image)).permute(2, 0, 1)[None] / 255
        assert torch.equal(picture.regions(), lpprop.regions.felzenszwalb(image))
        assert picture.regions() is picture.regions()


class TestModels:
    def test_what_is_not_on_disk_is_not_offered(self, models, monkeypatch):
        monkeypatch.setattr("lpprop.backbones.hub_cache.find_cached", lambda *_: None)
        assert Models().recipes == Models().features == ("offline",)
        with pytest.raises(InputError, match=r"recipe: got 'clip-dino', expected one of offline"):
            Models().load_recipe("clip-dino")
        with pytest.raises(InputError, match="features: got"):
            models.load_features("../../etc/passwd")
        with pytest.raises(InputError, match="affinity: got 'nowhere'"):
            Models(affinity="nowhere")

    def test_a_folder_is_known_by_its_last_part(self, tmp_path):
        (tmp_path / "own").mkdir()
        models = Models(affinity=tmp_path / "own")
        assert models.features[0] == "own"
        shown = " ".join(models.describe_features("own"))
        assert str(tmp_path) not in shown
        assert "path/to/own" in shown

    def test_each_is_loaded_once(self, models):
        assert models.load_features("offline") is models.load_features("offline")
        assert models.load_recipe("offline") == (models.load_features("offline"), None)


class TestLayers:
    def test_one_that_fails_says_so_beside_the_others(self, clicks, models, picture):
        found = make_layers(clicks, picture, models, ["bilinear", "lposs"], {"lposs": {"k": -1}})
        assert [layer.labels is None for layer in found] == [False, True]
        assert "k: got -1" in found[1].said[0]
        assert (found[1].shares, sum(found[0].shares)) == ([], pytest.approx(1))

    def test_all_that_fail_raise(self, clicks, models, picture):
        with pytest.raises(InputError, match="k: got -1"):
            make_layers(clicks, picture, models, ["lposs"], {"lposs": {"k": -1}})

    def test_doubts_are_told(self, models):
        large = Picture(Image.effect_noise((160, 160), 80).convert("RGB"))
        start = ByClicks(Clicks([(10, 10, 0), (90, 90, 1)]), ("a", "b"), "offline")
        plain, doubtful = make_layers(start, large, models, ["bilinear", "lposs"], {})
        assert "More than a quarter" in " ".join(doubtful.said)
        assert "More than a quarter" not in " ".join(plain.said)

    def test_shares(self):
        labels = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 0]], dtype=torch.uint8)
        assert Layer("auto", ["a", "b", "c"], labels, 0.1, ()).shares == [0.625, 0.0, 0.375]

    @pytest.mark.parametrize("methods", [[], ["auto", "pamr", "kl", "lposs", "bilinear"]])
    def test_their_number(self, methods):
        with pytest.raises(InputError, match="methods: got"):
            check_methods(methods)
        assert check_methods(["pamr"] * MOST_METHODS) == ["pamr"]

    def test_they_are_drawn_in_the_palette_with_a_line_between_classes(self):
        labels = torch.zeros(4, 6, dtype=torch.uint8)
        labels[:, 3:] = 1
        drawn = np.asarray(draw_labels(labels, ["a", "none of these"]).convert("RGB"))
        palette = colours("default", 1, background=True)
        assert (drawn[:, :2] == palette[0]).all()
        assert (drawn[:, 2] == 255).all()
        assert (drawn[:, 3:] == palette[1]).all()


class TestCanvas:
    def test_what_is_written_is_read(self):
        value = write_value(["<b>", "b"], [(0, 95, 1), (63, 0, 0)], "key")
        read = Marked.parse(value, SIZE, Limits())
        assert read == ("key", Clicks([(0, 95, 1), (63, 0, 0)]), ("<b>", "b"))

    @pytest.mark.parametrize(
        "value",
        [
            None,
            3,
            "",
            "[]",
            "[" * 10_000,
            '{"classes": ["a"]}',
            '{"classes": [], "points": []}',
            '{"classes": "ab", "points": []}',
            '{"classes": [1], "points": []}',
            '{"classes": ["a"], "points": {}}',
            '{"classes": ["a"], "points": [[1, 2]]}',
            '{"classes": ["a"], "points": [["1", 2, 0]]}',
            '{"classes": ["a"], "points": [[NaN, 2, 0]]}',
            '{"classes": ["a"], "points": [[Infinity, 2, 0]]}',
            '{"classes": ["a"], "points": [[1, 2, 0.5]]}',
            '{"classes": ["a"], "points": [[1, 2, 1]]}',
            '{"classes": ["a"], "points": [[1, 2, -1]]}',
            '{"classes": ["a"], "points": [[64, 2, 0]]}',
            '{"classes": ["a"], "points": [[1, 96, 0]]}',
            '{"classes": ["a"], "points": [[-1, 2, 0]]}',
            json.dumps({"classes": ["a"] * 33, "points": []}),
            json.dumps({"classes": ["a" * 2001], "points": []}),
            json.dumps({"classes": ["a"], "points": [[1, 2, 0]] * 501}),
        ],
    )
    def test_anything_else_is_a_sentence(self, value):
        with pytest.raises(InputError, match=r"^(clicks|classes): got .*expected"):
            Marked.parse(value, SIZE, Limits())

    def test_props_are_json_without_a_path(self, clicks, models, picture):
        found = make_layers(clicks, picture, models, ["bilinear"], {}, 0.5)
        props = json.loads(json.dumps(picture_props(picture) | layer_props(found)))
        assert props["size"] == [*SIZE]
        (layer,) = props["layers"]
        assert (layer["none"], layer["names"][-1]) == (True, "none of these")
        assert props["picture"].startswith("data:image/webp;base64,")
        assert layer["src"].startswith("data:image/png;base64,")

    def test_the_script_finds_what_the_page_has(self):
        html, css, js = ((STATIC / f"canvas.{kind}").read_text() for kind in ("html", "css", "js"))
        sought = set(re.findall(r'find\("([\w-]+)"\)', js))
        assert len(sought) > 15
        assert sought <= set(re.findall(r"\blp-([\w-]+)", html))
        made = set(re.findall(r"\blp-([\w-]+)", html + js)) - {"opacity", "aspect"}
        assert {"chip", "mark", "dot", "figure", "busy"} <= made
        styled = set(re.findall(r"\.lp-([\w-]+)", css))
        assert styled <= made
        # Names are the user's: they are never read as HTML.
        assert "innerHTML" not in js
        for text in (html, css):  # Gradio takes both for templates
            assert not re.search(r"\$\{|\{\{|`|https?:", text)


class TestSession:
    def test_clicks(self, models, picture):
        asked = wish(marked=marked(picture), methods=["bilinear", "lposs"], background=0.4)
        session, found = Session(picture).fulfil(asked, models, Limits())
        assert [layer.method for layer in found] == ["bilinear", "lposs"]
        assert session.methods == ("bilinear", "lposs")
        assert found[0].names == ["left", "right", "none of these"]
        assert "background=0.4" in session.code("lposs", models)
        assert session.code("pamr", models) == Session(picture).code("lposs", models) == ""

    def test_nothing_to_do(self, models, picture):
        other = Picture(picture.image)
        for value in (
            write_value(["a", "b"], [], picture.key),
            write_value(["a", "b"], [(1, 1, 0), (5, 5, 0)], picture.key),
            marked(other),  # which was there before
        ):
            assert Session(picture).fulfil(wish(marked=value), models, Limits()) is None

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"words": "cat\nsoffa"}, "classes"),
            ({"words": "flag\n" * 33}, "at most 32"),
            ({"words": "a" * 2001}, "classes: got a text of 2,001 characters"),
            ({"recipe": "/etc"}, "recipe: got '/etc'"),
            ({"methods": ["lpos"]}, "method: got 'lpos'"),
            ({"methods": []}, "methods: got none"),
            ({"background": 1.5}, "background: got 1.5"),
            ({"options": {"bilinear": {"k": 3}}}, "k"),
        ],
    )
    def test_what_cannot_be_is_a_sentence(self, models, picture, changes, sentence):
        asked = wish(**{"mode": WORDS, "words": "cat\nsofa", **changes})
        with pytest.raises(InputError, match=re.escape(sentence)):
            Session(picture).fulfil(asked, models, Limits())

    @pytest.mark.parametrize("background", [0, 0.8])
    def test_downloads(self, models, picture, background):
        asked = wish(marked=marked(picture), methods=["lposs"], background=background)
        session, (layer,) = Session(picture).fulfil(asked, models, Limits())
        files = {
            kind: io.BytesIO(session.download(kind, "lposs", models, 0.3)) for kind in DOWNLOADS
        }
        scores = np.load(files["scores"], allow_pickle=False)
        assert (scores.dtype, scores.shape[1:]) == (np.float32, SIZE)
        assert (scores.argmax(0) == layer.labels.numpy()).all()
        with Image.open(files["labels"]) as labels:
            assert labels.mode == "P"
            assert (np.asarray(labels) == layer.labels.numpy()).all()
            found = np.array(labels.getpalette()).reshape(-1, 3)
        palette = colours("default", 2, background=background > 0)
        assert (found[: len(palette)] == palette).all()
        expected = lpprop.viz.overlay(
            picture.image, layer.labels, len(palette), alpha=0.3, palette=palette
        )
        with Image.open(files["overlay"]) as drawn:
            assert (np.asarray(drawn) == np.asarray(expected)).all()

    def test_nothing_to_download(self, models, picture):
        session, _ = Session(picture).fulfil(wish(marked=marked(picture)), models, Limits())
        empty = Session(picture)
        for own, kind, method in (
            (empty, "labels", "bilinear"), (session, "labels", "pamr"), (session, "x", "bilinear"),
        ):  # fmt: skip
            with pytest.raises(InputError, match="download: got nothing"):
                own.download(kind, method, models)

    def test_two_sessions_share_nothing(self, models, picture):
        other = replace(Session(picture), picture=Picture(picture.image))
        first, _ = Session(picture).fulfil(wish(marked=marked(picture)), models, Limits())
        asked = wish(marked=marked(other.picture, names=("x", "y")))
        second, _ = other.fulfil(asked, models, Limits())
        assert (first.start.classes, second.start.classes) == (("left", "right"), ("x", "y"))


class TestOptions:
    @pytest.mark.parametrize("method", lpprop.presets.METHODS)
    def test_what_was_not_moved_is_left_out(self, method):
        known = controls(method)
        starts = reset_options(method, known, {method: {"a": 1}, "other": {}})
        assert starts[0] == {"other": {}}
        assert read_options(method, known, {"other": {}}, *starts[1:]) == {"other": {}, method: {}}

    def test_what_was_moved(self):
        known = controls("pamr")
        assert [control.name for control in known] == ["iterations", "dilations"]
        found = read_options("pamr", known, {}, 3.0, "(1, 2, 4)")
        assert found == {"pamr": {"iterations": 3, "dilations": (1, 2, 4)}}
        assert isinstance(found["pamr"]["iterations"], int)
        # What no menu has is not taken for code.
        assert read_options("pamr", known, {}, 10.0, "exit()") == {"pamr": {"iterations": 10}}


def test_examples_fit_their_pictures():
    pytest.importorskip("skimage")
    examples = available_examples()
    assert len(examples) == 4
    for example in examples:
        height, width = load_example(example.name).size
        assert {label for *_, label in example.points} == set(range(len(example.classes)))
        assert all(0 <= row < height and 0 <= column < width for row, column, _ in example.points)
        lpprop.backbones.class_groups(ByWords.parse(example.words, "offline").classes)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--recipe", "clip-dinoo"], "--recipe: got 'clip-dinoo'"),
        (["--affinity", "nowhere"], "--affinity: got 'nowhere'"),
        (["--max-side", "0"], "--max-side: got 0"),
        (["--device", "gpu"], "--device: got gpu"),
    ],
)
def test_the_command_refuses(arguments, sentence, capsys):
    assert cli.main(["app", *arguments]) == 1
    assert sentence in capsys.readouterr().err


def test_the_command_does_not_share(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["app", "--share"])
    assert "unrecognized arguments: --share" in capsys.readouterr().err


def test_the_page_has_what_it_lists(tmp_path):
    """Browser tests find the fields by these names; programs call nothing but two endpoints."""
    pytest.importorskip("gradio", reason="the extra app is not installed")
    # In a process of its own, since Gradio leaves an event loop open.
    code = """
import json, pathlib
from lpprop.app import page
from lpprop.app.answers import Answers
from lpprop.app.files import SessionFiles
from lpprop.app.limits import Limits
from lpprop.app.models import Models
files = SessionFiles(pathlib.Path("."), Limits())
built = page.build_page(Answers(Limits(), files), Models())
config = built.get_config_file()
fields = [component["props"].get("elem_id") for component in config["components"]]
public = [one["api_name"] for one in config["dependencies"] if one["api_visibility"] == "public"]
print(json.dumps([page.__doc__, fields, public, built.analytics_enabled]))
"""
    source = Path(lpprop.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": str(source)}, check=True,
    )  # fmt: skip
    doc, fields, public, analytics = json.loads(done.stdout.splitlines()[-1])
    _, _, listed = doc.partition("elem_id`:\n")
    lines = re.findall(r"^    ((?:\w+, )*\w+)  ", listed, re.MULTILINE)
    names = {name for line in lines for name in line.split(", ")}
    assert len(names) == 18
    assert names - set(fields) == set()
    assert set(public) == {"segment_words", "segment_clicks"}
    assert not analytics


def test_the_line_is_no_label():
    """A palette has room for the line between classes beside all labels that there can be."""
    assert Limits().classes + 1 < layers_module._LINE
