"""Stored arrays: as starts, in `lpprop eval` and `lpprop compare`; and what a run draws."""

import csv
import os
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import lpprop
from lpprop import InputError
from lpprop.cli import main
from lpprop.evaluation import Report, SegmentationMetrics, StoredStart, evaluate, refinements
from lpprop.evaluation.datasets import dataset_from_folders
from lpprop.evaluation.datasets.dataset import Files
from lpprop.evaluation.pictures import KINDS, Pictures
from lpprop.viz.palettes import colours

NAMES, CLASSES, SIZE, GRID = ("a", "b.c", "d"), ["cat", "dog", "sofa"], (64, 96), (4, 6)
ARRAYS = {"logits": (3, *GRID), "feats": (5, *GRID)}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Images, labels, classes, logits and feats of three samples, in the working folder."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for folder in ("images", "labels", *ARRAYS):
        (tmp_path / folder).mkdir()
    for name in NAMES:
        image = draw.integers(0, 256, (*SIZE, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{name}.png")
        labels = draw.choice(np.array([0, 1, 2, 255], np.uint8), SIZE)
        Image.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
        for kind, shape in ARRAYS.items():
            np.save(tmp_path / kind / f"{name}.npy", draw.normal(size=shape).astype(np.float32))
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    return tmp_path


@pytest.fixture
def data(root):
    return dataset_from_folders(root / "images", root / "labels", CLASSES)


FOLDERS = {name: Path(name) for name in ARRAYS}
OPTIONS = ("--option", "k=5", "--option", "r=3")


def run(*arguments):
    """Run `lpprop eval` on the folders, with the changes."""
    base = {"--images": "images", "--labels": "labels", "--classes": "classes.txt"}
    base |= {"--logits": "logits", "--feats": "feats", "--out": "out"}
    given = list(map(str, arguments))
    kept = [part for name, value in base.items() if name not in given for part in (name, value)]
    return main(["eval", *kept, *given])


def refined(name, method, **options):
    """The labels of an image, without runner and starts."""
    arrays = [torch.from_numpy(np.load(f"{kind}/{name}.npy"))[None] for kind in ARRAYS]
    image = Image.open(f"images/{name}.png")
    return lpprop.refine(*arrays, image, method=method, **options)[0].argmax(0)


class TestStart:
    @pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors", ".pt", ".pth"])
    def test_arrays_of_every_format(self, tmp_path, suffix):
        arrays = {
            "logits": torch.rand(3, 4, 5), "feats": torch.rand(7, 2, 3),
            "attention": torch.rand(20, 20), "pixel_feats": torch.rand(2, 8, 9),
        }  # fmt: skip
        for name, array in arrays.items():
            (tmp_path / name).mkdir()
            path = tmp_path / name / f"street{suffix}"
            if suffix == ".npy":
                np.save(path, array.numpy())
            elif suffix == ".npz":
                np.savez(path, **{name: array.numpy(), "other": np.ones(3)})
            elif suffix == ".safetensors":
                save_file({name: array}, path)
            else:
                torch.save(array, path)
        start = StoredStart({name: tmp_path / name for name in arrays})(Named("street"))
        assert torch.equal(start.logits, arrays.pop("logits")[None])
        assert list(start.inputs) == list(arrays)
        for name, array in arrays.items():
            assert torch.equal(start.inputs[name], array[None])

    def test_attention_of_heads(self, tmp_path):
        for name, shape in (("logits", (2, 2, 3)), ("attention", (4, 6, 6))):
            (tmp_path / name).mkdir()
            np.save(tmp_path / name / "street.npy", np.ones(shape))
        folders = {"logits": tmp_path / "logits", "attention": tmp_path / "attention"}
        assert StoredStart(folders)(Named("street")).inputs["attention"].shape == (1, 4, 6, 6)

    def test_the_name_of_the_sample_or_of_its_image(self, tmp_path):
        """Cityscapes' samples have other names than their files."""
        sample = Named("frankfurt_1")
        sample.files = Files(sample.name, Path("frankfurt_1_leftImg8bit.png"), Path("labels.png"))
        for name in ("frankfurt_1", "frankfurt_1_leftImg8bit"):
            folder = tmp_path / name
            folder.mkdir()
            np.save(folder / f"{name}.npy", np.ones((2, 2, 3)))
            assert StoredStart({"logits": folder})(sample).logits.shape == (1, 2, 2, 3)
        shutil.copy(folder / f"{name}.npy", folder / "frankfurt_1.npy")
        with pytest.raises(InputError, match=r"frankfurt_1 \(2 files\)"):
            StoredStart({"logits": folder})(sample)

    @pytest.mark.parametrize(
        "folders",
        [{}, {"feats": "feats"}, {"logits": "logits", "image": "images"}, "logits", ["logits"]],
    )
    def test_other_inputs(self, root, folders):
        with pytest.raises(InputError, match=r"^folders: got .*, expected a folder of logits"):
            StoredStart(folders)

    def test_no_folder(self, root):
        with pytest.raises(InputError, match=r"^feats: got nowhere, which does not exist"):
            StoredStart({"logits": "logits", "feats": "nowhere"})
        with pytest.raises(InputError, match=r"^logits: got 5, expected a path"):
            StoredStart({"logits": 5})

    def test_it_pickles(self, root, data):
        start = StoredStart(FOLDERS)
        copied = pickle.loads(pickle.dumps(start))
        assert torch.equal(copied(data[1]).logits, start(data[1]).logits)
        assert copied.fingerprint() == start.fingerprint()
        assert repr(copied) == repr(start)


class Named(SimpleNamespace):
    """A sample of which only the name matters."""

    def __init__(self, name):
        super().__init__(name=name)


class TestCheck:
    def test_what_is_complete_passes(self, root, data):
        StoredStart(FOLDERS).check(data)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda: Path("feats/a.npy").unlink(), r"^feats: .* 1 of 3 samples: a \(0 files\), "),
            (lambda: np.savez("logits/d.npz", 1), r"^logits: .* 1 of 3 samples: d \(2 files\), "),
            (
                lambda: Path("logits/a.npy").rename("logits/A.npy"),
                r"a \(0 files\); no sample is named like A.npy, expected",
            ),
            (
                lambda: np.save("feats/e.npy", np.ones((5, *GRID))),
                "^feats: got e.npy in feats, named like no sample, expected",
            ),
            (
                lambda: np.save("logits/a.npy", np.ones((4, *GRID))),
                r"^logits: got .*a.npy of shape \(4, 4, 6\), expected \(3, h, w\)",
            ),
            (
                lambda: np.save("logits/a.npy", np.ones(GRID)),
                r"^logits: got .*a.npy of shape \(4, 6\), expected",
            ),
        ],
    )
    def test_what_does_not_fit(self, root, data, change, message):
        change()
        with pytest.raises(InputError, match=message):
            StoredStart(FOLDERS).check(data)

    def test_many_names_are_shortened(self, root, data):
        (root / "none").mkdir()
        for number in range(9):
            np.save(root / "none" / f"x{number}.npy", np.ones((3, *GRID)))
        with pytest.raises(InputError, match=r"x0.npy, .*, x4.npy and 4 more, expected"):
            StoredStart({"logits": "none"}).check(data)


class TestFingerprint:
    def test_it_is_that_of_the_content(self, root):
        before = StoredStart(FOLDERS).fingerprint()
        shutil.copytree(root / "logits", root / "copy" / "logits")  # of other times
        moved = StoredStart({**FOLDERS, "logits": root / "copy" / "logits"})
        assert moved.fingerprint() == before
        array = np.load("feats/d.npy")
        array[0, 0, 0] += 1
        np.save("feats/d.npy", array)
        after = StoredStart(FOLDERS).fingerprint()
        assert after["stored"]["logits"] == before["stored"]["logits"]
        assert after["stored"]["feats"] != before["stored"]["feats"]

    def test_names_are_part_of_it(self, root):
        before = StoredStart({"logits": "logits"}).fingerprint()
        Path("logits/a.npy").rename("logits/aa.npy")  # which is the first as well
        assert StoredStart({"logits": "logits"}).fingerprint() != before

    def test_what_did_not_change_is_not_read_again(self, root, monkeypatch):
        start, opened = StoredStart(FOLDERS), []
        plain = Path.open
        monkeypatch.setattr(Path, "open", lambda p, *args: (opened.append(p), plain(p, *args))[1])
        first = start.fingerprint()
        assert len(opened) == 6
        np.save("logits/a.npy", np.load("logits/a.npy") + 1)
        opened.clear()
        assert start.fingerprint() != first
        assert set(opened) == {Path("logits/a.npy")}


class TestEval:
    def test_the_figures_are_those_of_a_loop(self, root, data, capsys):
        assert run("--method", "bilinear", "lposs", "lposs+", *OPTIONS) == 0
        report = Report.load(root / "out")
        assert capsys.readouterr().out.startswith(report.table())
        chosen = {"bilinear": {}, "lposs": {"k": 5}, "lposs+": {"k": 5, "r": 3}}
        assert list(report) == list(chosen)
        for method, options in chosen.items():
            expected = SegmentationMetrics(3)
            for sample in data:
                expected.update(refined(sample.name, method, **options), sample.gt)
            assert report[method].metrics.to_dict() == expected.to_dict()

    def test_methods_by_default_are_those_that_the_arrays_allow(self, root):
        shutil.rmtree("feats")
        assert run("--feats", "feats") == 1
        base = ["--images", "images", "--labels", "labels", "--classes", "classes.txt"]
        assert main(["eval", *base, "--logits", "logits", "--out", "out"]) == 0
        methods = list(Report.load(root / "out"))
        assert {"bilinear", "joint_bilateral", "pamr"} <= set(methods)
        assert not {"lposs", "lposs+", "max_velocity"} & set(methods)

    def test_a_run_is_resumed_until_arrays_change(self, root, capsys):
        assert run("--method", "bilinear", "--limit", 2) == 0
        first = Path("out/bilinear.jsonl").read_bytes()
        assert run("--method", "bilinear", "lposs", *OPTIONS[:2]) == 0
        assert Path("out/bilinear.jsonl").read_bytes().startswith(first)
        for name in NAMES:
            os.utime(f"logits/{name}.npy")
        assert run("--method", "bilinear") == 0
        np.save("logits/d.npy", np.load("logits/d.npy") + 1)
        capsys.readouterr()
        assert run("--method", "bilinear") == 1
        said = capsys.readouterr().err
        assert "--out: got out, which holds a run with bilinear.start.stored.logits.content" in said

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (("--recipe", "offline"), "--logits: got logits beside --recipe offline, whose models"),
            (("--side", 16), "--side: got it beside --logits"),
            (("--no-download",), "--no-download: got it beside --logits"),
            (("--method", "lpos"), "Did you mean 'lposs'?"),
            (("--option", "kk=3"), "kk: got an option that no method has"),
            (
                ("--method", "bilinear", "--attention", "feats"),
                "--attention: got feats, expected n",
            ),
            (("--logits", "nowhere"), "--logits: got nowhere, which does not exist"),
            (("--logits", "logits/a.npy"), "--logits: got logits/a.npy, which is not a folder"),
            (("--logits", "images"), "--logits: got in images, for 3 of 3 samples: a (0 files)"),
            (("--save", "label"), "--save: got 'label', expected labels or overlays, or both. Did"),
            (("--save", "labels,,"), "--save: got '', expected"),
        ],
    )
    def test_mistakes_are_found_before_any_work(self, root, capsys, change, message):
        assert run(*change) == 1
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
        assert not Path("out").exists()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ((), "--recipe: got neither it nor --logits, expected one of the two"),
            (("--feats", "feats"), "--recipe: got neither it nor --logits beside --feats"),
            (("--recipe", "offline", "--feats", "feats"), "--feats: got feats beside --recipe"),
            (
                ("--logits", "logits", "--method", "lposs"),
                "--feats: got nothing, expected a folder",
            ),
            (
                ("--logits", "logits", "--method", "optimal_path"),
                "--attention: got nothing, expected a folder. The method optimal_path needs it, or",
            ),
        ],
    )
    def test_what_is_missing(self, root, capsys, given, message):
        base = ["--images", "images", "--labels", "labels", "--classes", "classes.txt"]
        assert main(["eval", *base, *given, "--out", "out"]) == 1
        assert message in capsys.readouterr().err
        assert not Path("out").exists()


class TestPictures:
    @pytest.mark.parametrize("processes", [1, 2])
    def test_labels_and_overlays(self, root, data, capsys, processes):
        more = ("--method", "bilinear", "lposs+", *OPTIONS, "--processes", processes)
        assert run(*more, "--save", "overlays,labels") == 0
        assert "labels and overlays: out/labels, out/overlays\n" in capsys.readouterr().out
        for method, options in (("bilinear", {}), ("lposs+", {"k": 5, "r": 3})):
            for name in NAMES:
                labels = refined(name, method, **options).numpy()
                with Image.open(f"out/labels/{method}/{name}.png") as stored:
                    assert stored.mode == "P"
                    assert np.array_equal(stored, labels)
                    assert stored.getpalette()[:9] == colours("default", 3).flatten().tolist()
                with Image.open(f"out/overlays/{method}/{name}.png") as page:
                    width, height = page.size
                assert (width, height) > (2 * SIZE[1], SIZE[0])
            expected = SegmentationMetrics(3)
            for sample in data:
                expected.update(refined(sample.name, method, **options), sample.gt)
            assert Report.load(root / "out")[method].metrics.to_dict() == expected.to_dict()
        held = {path.relative_to("out").as_posix() for path in Path("out").rglob("*.png")}
        assert len(held) == 2 * 2 * len(NAMES)

    @pytest.mark.parametrize(
        ("word", "kinds"), [("labels", {"labels"}), ("overlays", {"overlays"})]
    )
    def test_either_alone(self, root, word, kinds):
        assert run("--method", "bilinear", "--save", word) == 0
        assert {path.name for path in Path("out").iterdir() if path.is_dir()} == kinds

    def test_a_run_is_resumed(self, root):
        """What is finished stays as it is; missing pictures come again, with equal counts."""
        assert run("--method", "bilinear") == 0
        before = Report.load(root / "out")["bilinear"].metrics.to_dict()
        assert run("--method", "bilinear", "--save", "labels", "overlays") == 0
        files = sorted(Path("out").rglob("*.png"))
        assert len(files) == 6
        lines = Path("out/bilinear.jsonl").read_bytes()
        stamps = [file.stat().st_ino for file in files]
        assert run("--method", "bilinear", "--save", "labels", "overlays") == 0
        assert [file.stat().st_ino for file in files] == stamps
        assert Path("out/bilinear.jsonl").read_bytes() == lines
        content = files[0].read_bytes()
        files[0].unlink()
        abandoned = files[0].parent / ".lpprop-killed.tmp"
        abandoned.touch()
        assert run("--method", "bilinear", "--save", "labels,overlays") == 0
        assert files[0].read_bytes() == content
        assert [file.stat().st_ino for file in files[1:3]] == stamps[1:3]  # of the other images
        assert not abandoned.exists()
        assert Path("out/bilinear.jsonl").read_bytes().count(b"\n") == 3
        assert Report.load(root / "out")["bilinear"].metrics.to_dict() == before

    def test_images_beyond_the_limit_are_left(self, root):
        assert run("--method", "bilinear") == 0
        assert run("--method", "bilinear", "--limit", 1, "--save", "labels") == 0
        assert [path.name for path in Path("out").rglob("*.png")] == ["a.png"]
        assert len(Report.load(root / "out")["bilinear"].images) == 3

    def test_names_are_safe_and_differ(self, tmp_path):
        odd = [
            "lposs+",
            "a/b",
            "a%2Fb",
            "..",
            ".",
            "",
            "...",
            "a\\b",
            "x:k=3",
            "\udce9",
            "%",
            "CON ",
            "a.",
            "a",
            ".a",
            "a\n",
            "a\0",
            'a"<>|*?',
            "路" * 100,
            "路" * 101,
            "路" * 62 + "b" * 99,
            "%/" * 120,
            "x" * 200,
            "x" * 201,
        ]
        pictures = Pictures(tmp_path, KINDS, CLASSES)
        pictures.make_folders(odd)
        made = {pictures.file("labels", name, "street").parent for name in odd}
        assert len(made) == len(odd)
        assert {path.parent for path in made} == {tmp_path / "labels"}
        assert made == set((tmp_path / "labels").iterdir())
        assert {pictures.file("labels", "one", name).parent for name in odd} == {
            tmp_path / "labels" / "one"
        }
        assert tmp_path / "labels" / "lposs+" in made

    def test_letters_of_all_scripts_stay(self, tmp_path):
        pictures = Pictures(tmp_path, KINDS, CLASSES)
        for name in ("straße_été (1)", "街道_0001", "улица-3", "شارع", "O'Neil & co~#[2]"):
            assert pictures.file("labels", "one", name).name == f"{name}.png"
        assert pictures.file("labels", "one", "../a:b").name == "%2E.%2Fa%3Ab.png"

    def test_long_names_do_not_lose_their_image(self, root):
        """A name of 80 letters of three bytes each, which quoted would be 720."""
        long = "路" * 80
        for folder in ("images", "labels", *ARRAYS):
            (path,) = Path(folder).glob("a.*")
            path.rename(path.with_stem(long))
        assert run("--method", "bilinear", "--save", "labels", "overlays") == 0
        report = Report.load(root / "out")
        assert long in {one.name for one in report["bilinear"].images}
        assert len(list((root / "out" / "labels" / "bilinear").iterdir())) == len(NAMES)
        files = sorted((root / "out").rglob("*.png"))
        stamps = [file.stat().st_ino for file in files]
        assert run("--method", "bilinear", "--save", "labels", "overlays") == 0
        assert [file.stat().st_ino for file in files] == stamps  # they are found again

    def test_a_picture_that_cannot_be_drawn_leaves_no_record(self, root, data):
        """Labels that are no class are allowed where no pixel counts, and have no colour."""
        predictors = {"odd": lambda sample: np.where(sample.gt == 255, 7, sample.gt)}
        with pytest.warns(UserWarning, match="predictor: got the label 7"):
            report = evaluate(
                data, predictors, root / "out", save=["labels"], on_error="skip", progress=False
            )
        assert len(report["odd"].failures) == 3
        assert not list((root / "out").rglob("*.png"))
        evaluate(data, predictors, root / "out", progress=False)

    @pytest.mark.parametrize("save", ["labels", ["labels", "scores"], [5], None, {"labels"}])
    def test_other_words(self, root, data, save):
        with pytest.raises(
            InputError, match=r"^save: got .*, expected labels or overlays, or both"
        ):
            evaluate(data, {"one": lambda sample: sample.gt}, root / "out", save=save)

    def test_pictures_need_a_folder(self, data):
        with pytest.raises(InputError, match=r"^save: got labels without a folder"):
            evaluate(data, {"one": lambda sample: sample.gt}, save=["labels"])


def test_in_python(root, data):
    start = StoredStart(FOLDERS)
    start.check(data)
    report = evaluate(data, refinements(start, {"mine": lpprop.presets.lposs(k=5)}))
    expected = SegmentationMetrics(3)
    for sample in data:
        expected.update(refined(sample.name, "lposs", k=5), sample.gt)
    assert report["mine"].metrics.to_dict() == expected.to_dict()


class TestCompare:
    def test_a_folder_is_as_its_file(self, root):
        methods = ["--methods", "bilinear", "lposs:k=5"]
        tables = []
        for out, (logits, feats) in {
            "files": ("logits/b.c.npy", "feats/b.c.npy"), "mixed": ("logits", "feats/b.c.npy"),
            "folders": ("logits", "feats"),
        }.items():  # fmt: skip
            given = ["--logits", logits, "--feats", feats, "--gt", "labels/b.c.png", *methods]
            assert main(["compare", "images/b.c.png", *given, "--out", out]) == 0
            rows = list(csv.DictReader(Path(f"{out}/b.c_compare.csv").read_text().splitlines()))
            tables.append([(row["method"], row["miou"], row["changed"]) for row in rows])
        assert tables[0] == tables[1] == tables[2]
        expected = SegmentationMetrics(3)
        gt = np.asarray(Image.open("labels/b.c.png"))
        expected.update(refined("b.c", "lposs", k=5), gt)
        assert float(tables[0][1][1]) == pytest.approx(expected.miou, rel=1e-5)

    def test_a_folder_without_its_file(self, root, capsys):
        Path("logits/a.npy").unlink()
        assert main(["compare", "images/a.png", "--logits", "logits", "--out", "out"]) == 1
        said = capsys.readouterr().err
        assert "--logits: got in logits, for 1 of 1 images: a (0 files), expected one file" in said
        assert not Path("out").exists()
