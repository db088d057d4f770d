"""Data sets: the official folders, label conversions, class lists, and what is refused."""

import contextlib
import dataclasses
import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dataset_trees as trees
import lpprop
from lpprop.backbones import BACKGROUND_PROMPTS
from lpprop.backbones.prompts import parse_classes
from lpprop.evaluation.datasets import DATASETS, Dataset, dataset_from_folders, load_dataset
from lpprop.evaluation.datasets.dataset import SUFFIXES
from lpprop.io.images import load_image

CAMVID = Path(__file__).parents[2] / "shared" / "camvid"
COUNTS = {
    "voc21": 21,
    "voc20": 20,
    "context60": 60,
    "context59": 59,
    "coco-object": 81,
    "coco-stuff": 171,
    "cityscapes": 19,
    "ade20k": 150,
    "camvid": 11,
    "loveda": 7,
    "isaid": 16,
    "uavid": 8,
    "openearthmap": 8,
}
every = pytest.mark.parametrize("name", list(DATASETS))


@pytest.fixture
def tree(tmp_path):
    """Builds the tree of a data set; returns its root and the expected labels."""

    def build(name):
        return tmp_path, trees.TREES[name](tmp_path)

    return build


def refused(match):
    return pytest.raises(lpprop.InputError, match=match)


# --------------------------------------------------------------------------- the protocols


@every
def test_samples_are_as_expected(tree, name):
    root, expected = tree(name)
    dataset = load_dataset(name, root)
    assert [sample.name for sample in dataset] == list(expected)
    for sample, labels in zip(dataset, expected.values(), strict=True):
        assert sample.gt.dtype == np.uint8
        np.testing.assert_array_equal(sample.gt, labels)
        assert sample.image.mode == "RGB"
        assert sample.image.size == labels.shape[::-1]


@every
def test_all_classes_occur_and_no_other(tree, name):
    root, _ = tree(name)
    dataset = load_dataset(name, str(root))
    found = np.unique([label for sample in dataset for label in sample.gt.flat])
    ignored = [] if name in ("coco-object", "context60", "isaid", "uavid") else [255]
    assert found.tolist() == [*range(COUNTS[name]), *ignored]


@every
def test_classes_and_prompts(tree, name):
    dataset = load_dataset(name, tree(name)[0])
    assert len(dataset.class_names) == len(dataset.prompts) == COUNTS[name]
    assert dataset.class_names == parse_classes(dataset.prompts).class_names
    assert dataset.prompts == DATASETS[name].prompts
    for prompt in dataset.prompts:
        assert prompt == prompt.strip()
        assert prompt.isprintable()


@pytest.mark.parametrize(
    ("name", "key"), [("voc21", "voc"), ("context60", "context"), ("coco-object", "coco-object")]
)
def test_background_has_its_own_prompts(name, key):
    read = parse_classes(DATASETS[name].prompts)
    assert read.class_names[0] == "background"
    assert [read.prompts[i] for i in read.groups[0]] == list(BACKGROUND_PROMPTS[key])
    assert all(len(group) == 1 for group in read.groups[1:])


def test_other_benchmarks_have_no_background():
    with_background = {name for name in DATASETS if DATASETS[name].background is not None}
    assert with_background == {"voc21", "context60", "coco-object"}
    plain = {name for name in DATASETS if DATASETS[name].prompts[0] == "background"}
    assert plain == {"loveda", "isaid"}  # nobody has published words for it


def test_class_lists_agree_with_each_other():
    labels = {name: parse_classes(DATASETS[name].prompts).class_names for name in DATASETS}
    assert labels["voc21"][1:] == labels["voc20"]
    assert labels["context60"][1:] == labels["context59"]
    assert labels["context59"] == sorted(labels["context59"])
    assert labels["coco-object"][1:] == labels["coco-stuff"][:80]
    assert labels["coco-stuff"][80:] == sorted(labels["coco-stuff"][80:])
    # Landmarks of each list, at the places where the data sets' documents have them.
    assert (labels["voc21"][15], labels["voc21"][20]) == ("person", "tvmonitor")
    assert (labels["coco-object"][1], labels["coco-object"][80]) == ("person", "toothbrush")
    assert (labels["coco-stuff"][80], labels["coco-stuff"][170]) == ("banner", "wood")
    assert (labels["ade20k"][12], labels["ade20k"][149]) == ("person", "flag")
    assert (labels["cityscapes"][13], labels["cityscapes"][18]) == ("car", "bicycle")
    assert (labels["loveda"][1], labels["loveda"][6]) == ("building", "agricultural")
    assert (labels["isaid"][1], labels["isaid"][15]) == ("ship", "harbor")
    assert (labels["uavid"][3], labels["uavid"][7]) == ("static car", "moving car")
    assert (labels["openearthmap"][0], labels["openearthmap"][7]) == ("bareland", "building")


@every
def test_palettes_are_the_data_sets_own(tree, name):
    palette = load_dataset(name, tree(name)[0]).palette
    first = {
        "voc21": [0, 0, 0],  # background
        "voc20": [128, 0, 0],  # aeroplane
        "cityscapes": [128, 64, 128],  # road
        "ade20k": [120, 120, 120],  # wall
        "camvid": [128, 128, 128],  # sky
        "loveda": [255, 255, 255],  # background
        "isaid": [0, 0, 0],  # background
        "uavid": [0, 0, 0],  # background clutter
        "openearthmap": [128, 0, 0],  # bareland
    }
    if name not in first:
        assert palette is None
        return
    assert palette.shape == (COUNTS[name], 3)
    assert palette.dtype == np.uint8
    assert palette[0].tolist() == first[name]


@every
def test_a_data_set_is_a_sequence(tree, name):
    root, expected = tree(name)
    dataset = load_dataset(name, root)
    assert len(dataset) == 2
    assert dataset[-1].name == list(expected)[-1]
    part = dataset[1:]
    assert isinstance(part, Dataset)
    assert [sample.name for sample in part] == list(expected)[1:]
    assert (part.class_names, part.name) == (dataset.class_names, name)
    with pytest.raises(IndexError):
        dataset[2]
    with refused("without samples"):
        dataset[2:]


@every
def test_pickles_for_other_processes(tree, name):
    root, expected = tree(name)
    dataset = load_dataset(name, root)
    dataset[0].gt  # noqa: B018 - what is read already does not travel along
    again = pickle.loads(pickle.dumps(dataset))
    assert repr(again) == repr(dataset)
    np.testing.assert_array_equal(again[0].gt, next(iter(expected.values())))


@every
def test_the_root_may_hold_the_data_set_under_its_usual_name(tmp_path, name):
    usual = {"voc": "VOCdevkit/VOC2012", "con": "VOCdevkit/VOC2010", "ade": "ADEChallengeData2016"}
    usual |= {"coc": "coco", "cit": "cityscapes", "cam": "camvid"}
    usual |= {"lov": "LoveDA", "isa": "iSAID", "uav": "uavid_v1.5_official_release_image"}
    usual |= {"ope": "OpenEarthMap_wo_xBD"}
    expected = trees.TREES[name](tmp_path / usual[name[:3]])
    assert [sample.name for sample in load_dataset(name, tmp_path)] == list(expected)


@every
def test_samples_are_read_on_first_access(tree, name, monkeypatch):
    root, _ = tree(name)

    def fail(*args, **kwargs):
        raise AssertionError("read")

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", fail)
        dataset = load_dataset(name, root)
        sample = dataset[0]
        assert (len(dataset), bool(sample.name)) == (2, True)
    assert sample.gt is sample.gt
    assert sample.image is sample.image


@every
def test_order_does_not_depend_on_the_file_system(tree, name, monkeypatch):
    root, expected = tree(name)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: sorted(listed(self), reverse=True))
    assert [sample.name for sample in load_dataset(name, root)] == list(expected)


# --------------------------------------------------------------------------- other layouts


def test_cityscapes_by_train_ids(tree):
    """What its tools write of the label ids gives the same classes."""
    root, expected = tree("cityscapes")
    for path in sorted(root.glob("gtFine/val/*/*_labelIds.png")):
        converted = expected[path.name.removesuffix("_gtFine_labelIds.png")]
        trees.write_labels(
            path.with_name(path.name.replace("labelIds", "labelTrainIds")), converted
        )
        path.unlink()
    dataset = load_dataset("cityscapes", root)
    assert "labelTrainIds" in dataset.labels_from
    for sample in dataset:
        np.testing.assert_array_equal(sample.gt, expected[sample.name])


def test_coco_in_its_own_folders(tree):
    root, expected = tree("coco-stuff")
    (root / "images" / "val2017").rename(root / "val2017")
    (root / "annotations").rename(root / "stuffthingmaps")
    for sample in load_dataset("coco-stuff", root):
        np.testing.assert_array_equal(sample.gt, expected[sample.name])


@pytest.mark.parametrize("name", ["context60", "context59"])
def test_context_in_the_authors_files(tmp_path, name):
    """Numbers found by name give what the known numbers give."""
    expected = trees.context_mat(tmp_path, DATASETS["context59"].prompts)
    if name == "context59":
        expected = np.where(expected == 0, 255, expected - 1)
    dataset = load_dataset(name, tmp_path)
    assert ".mat" in dataset.labels_from
    np.testing.assert_array_equal(dataset[0].gt, expected)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again[0].gt, expected)


def test_context_labels_without_a_class(tmp_path):
    trees.context_mat(
        tmp_path, ["sofas" if c == "sofa" else c for c in DATASETS["context59"].prompts]
    )
    with refused(r"labels\.txt without sofa"):
        load_dataset("context60", tmp_path)


def test_context_labels_out_of_range(tmp_path):
    from scipy.io import savemat

    trees.context_mat(tmp_path, DATASETS["context59"].prompts)
    path = tmp_path / "trainval" / "2008_000002.mat"
    savemat(path, {"LabelMap": np.full((8, 8), 460, dtype=np.uint16)})
    with refused("2008_000002.mat with 460 at 64 pixels"):
        load_dataset("context60", tmp_path)[0].gt  # noqa: B018


@pytest.mark.parametrize("content", ["cut", "other", "shape", "text"])
def test_damaged_mat_files(tmp_path, content):
    from scipy.io import savemat

    trees.context_mat(tmp_path, DATASETS["context59"].prompts)
    path = tmp_path / "trainval" / "2008_000002.mat"
    if content == "cut":
        path.write_bytes(path.read_bytes()[:150])
    else:
        held = {
            "other": {"Map": 1},
            "shape": {"LabelMap": np.ones((8, 8, 3))},
            "text": {"LabelMap": "a"},
        }
        savemat(path, held[content])
    with refused(r"2008_000002\.mat"):
        load_dataset("context60", tmp_path)[0].gt  # noqa: B018


# --------------------------------------------------------------------------- from the air


def same_labels(dataset, expected):
    assert dataset.names == list(expected)
    for sample in dataset:
        np.testing.assert_array_equal(sample.gt, expected[sample.name])
        assert sample.image.size == sample.gt.shape[::-1]


def test_loveda_as_mmsegmentation_converts_it(tree):
    """One folder per split, in lower case, for both areas."""
    root, expected = tree("loveda")
    for kind, folder in (("images_png", "img_dir"), ("masks_png", "ann_dir")):
        (root / folder / "val").mkdir(parents=True)
        for path in sorted(root.glob(f"Val/*/{kind}/*.png")):
            path.rename(root / folder / "val" / path.name)
    shutil.rmtree(root / "Val")
    same_labels(load_dataset("loveda", root), expected)
    same_labels(load_dataset("loveda", root, split="val"), expected)


def test_loveda_with_one_area(tree):
    root, _ = tree("loveda")
    shutil.rmtree(root / "Val" / "Urban")
    with refused("without Val/Urban/images_png, Val/Urban/masks_png"):
        load_dataset("loveda", root)


def test_loveda_with_one_name_in_both_areas(tree):
    root, _ = tree("loveda")
    for kind in ("images_png", "masks_png"):
        folder = root / "Val" / "Rural" / kind
        shutil.copy(folder / "2522.png", root / "Val" / "Urban" / kind)
    with refused("Rural/images_png/2522.png and .*Urban/images_png/2522.png"):
        load_dataset("loveda", root)


def test_isaid_in_patches(tmp_path):
    expected = trees.isaid_patches(tmp_path)
    dataset = load_dataset("isaid", tmp_path)
    assert "ann_dir/val" in dataset.labels_from
    same_labels(dataset, expected)


def test_isaid_as_it_is_unpacked(tree):
    """Images and masks in archives with a folder "images" inside."""
    root, expected = tree("isaid")
    for name in expected:
        for inside, stem in (("images", name), ("Semantic_masks", f"{name}_instance_color_RGB")):
            (root / "new" / inside / "images").mkdir(parents=True, exist_ok=True)
            old = root / "val" / "images" / f"{stem}.png"
            old.rename(root / "new" / inside / "images" / old.name)
    shutil.rmtree(root / "val")
    (root / "new").rename(root / "val")
    same_labels(load_dataset("isaid", root), expected)


def test_isaid_without_masks(tree):
    """The masks of the test images are withheld."""
    root, _ = tree("isaid")
    for path in sorted((root / "val" / "images").glob("*_instance_*")):
        path.unlink()
    with refused("no labels for 2 of 2 samples, the first P0003, P0004"):
        load_dataset("isaid", root)


@pytest.mark.parametrize("folder", ["valid", "val"])
def test_uavid_in_the_toolkits_folders(tree, folder):
    root, expected = tree("uavid")
    (root / "uavid_val").rename(root / folder)
    same_labels(load_dataset("uavid", root), expected)


@pytest.mark.parametrize("name", trees.COLOURED)
def test_colours_of_no_class(tree, name):
    """One step beside a class's colour, as a compressed copy has it."""
    root, expected = tree(name)
    dataset = load_dataset(name, root)
    colours = np.zeros((*next(iter(expected.values())).shape, 3), dtype=np.uint8)
    colours[0, 2] = (1, 0, 127)
    trees.write_labels(dataset.files[0].labels, colours)
    with refused(r"the colours \(1, 0, 127\) at 1 pixels, the first at \(0, 2\)"):
        dataset[0].gt  # noqa: B018
    trees.write_labels(dataset.files[0].labels, colours[..., 0])
    with refused("'L'.*a colour per class"):
        dataset[0].gt  # noqa: B018


def test_openearthmap_without_the_images_of_xbd(tree):
    """The download lists them and has their labels, but not the images."""
    root, _ = tree("openearthmap")
    (root / "aachen" / "images" / "aachen_5.tif").unlink()
    with refused("no image for 1 of 2 samples, the first aachen_5"):
        load_dataset("openearthmap", root)
    trees.write_text(root / "xbd_files.csv", "a.png,aachen_5.tif\r\nb.png,aachen_9.tif\r\n")
    with pytest.warns(lpprop.InputWarning, match="1 of the 2 images of 'val' .* are left out"):
        dataset = load_dataset("openearthmap", root)
    assert dataset.names == ["buenos_aires_11"]


def test_geotiff_files(tree):
    """As the authors' code writes them: planes one after the other, with a georeference."""
    rasterio = pytest.importorskip("rasterio")
    root, expected = tree("openearthmap")
    dataset = load_dataset("openearthmap", root)
    shape = expected["buenos_aires_11"].shape
    pixels = np.random.default_rng(1).integers(0, 256, (3, *shape), dtype=np.uint8)
    stored = np.asarray(Image.open(dataset.files[0].labels))
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(0.3, 0, 5e5, 0, -0.3, 5e6)}
    for path, planes in ((dataset.files[0].image, pixels), (dataset.files[0].labels, stored[None])):
        profile = {"driver": "GTiff", "count": len(planes), "height": shape[0], "width": shape[1]}
        profile |= {"dtype": "uint8", "interleave": "band", "compress": "deflate", "nodata": 0}
        with rasterio.open(path, "w", **profile, **place) as file:
            file.write(planes)
    sample = dataset[0]
    np.testing.assert_array_equal(np.asarray(sample.image), pixels.transpose(1, 2, 0))
    np.testing.assert_array_equal(sample.gt, expected["buenos_aires_11"])


def test_labels_in_a_lossy_tiff(tree):
    root, expected = tree("openearthmap")
    dataset = load_dataset("openearthmap", root)
    labels = np.zeros_like(expected["buenos_aires_11"])
    Image.fromarray(labels).save(dataset.files[0].labels, compression="jpeg")
    with refused("with jpeg compression"):
        dataset[0].gt  # noqa: B018


# --------------------------------------------------------------------------- instances


@pytest.fixture
def instances(tmp_path):
    """Paints annotations: the labels of the first image."""
    pytest.importorskip("pycocotools")

    def paint(*annotations):
        trees.instances(tmp_path, annotations)
        dataset = load_dataset("coco-object", tmp_path)
        assert "instance" in dataset.labels_from
        assert [sample.name for sample in dataset] == ["000000000139", "000000000285"]
        assert not dataset[1].gt.any()
        return dataset[0].gt

    return paint


def test_instances_of_each_category(instances):
    """The 80 ids, which skip 10 of 1 to 90, become 1 to 80."""
    ids = [i for i in range(1, 91) if i - 1 not in trees.COCO_GAPS]
    boxes = [
        {"category_id": number, "segmentation": trees.rectangle(place % 12, place // 12, 1, 1)}
        for place, number in enumerate(ids)
    ]
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected.flat[: len(ids)] = np.arange(1, 81)
    np.testing.assert_array_equal(instances(*boxes), expected)


@pytest.mark.parametrize("turned", [False, True])
def test_smaller_instances_are_on_top(instances, turned):
    large = {"category_id": 67, "segmentation": trees.rectangle(1, 1, 8, 8)}  # dining table
    small = {"category_id": 47, "segmentation": trees.rectangle(3, 3, 2, 2)}  # cup
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected[1:9, 1:9] = 61
    expected[3:5, 3:5] = 42
    np.testing.assert_array_equal(instances(*([large, small][:: -1 if turned else 1])), expected)


def test_of_equal_instances_the_later_is_on_top(instances):
    one = {"category_id": 1, "segmentation": trees.rectangle(0, 0, 2, 2)}
    two = {"category_id": 2, "segmentation": trees.rectangle(1, 0, 2, 2)}
    assert instances(one, two)[0, :4].tolist() == [1, 2, 2, 0]
    assert instances(two, one)[0, :4].tolist() == [1, 1, 2, 0]


def test_crowds_are_below_and_run_lengths_are_read(instances):
    """Uncompressed and compressed codes, column by column."""
    from pycocotools import mask as coco

    crowd = {"counts": [0, 5, 115], "size": [10, 12]}  # rows 0 to 4 of column 0
    boxed = np.zeros((10, 12), dtype=np.uint8, order="F")
    boxed[:, :2] = 1
    code = coco.encode(boxed)
    found = instances(
        {"category_id": 1, "segmentation": crowd, "iscrowd": 1},
        {"category_id": 90, "segmentation": {"size": [10, 12], "counts": code["counts"].decode()}},
        {
            "category_id": 3,
            "segmentation": {"counts": [20, 10, 90], "size": [10, 12]},
            "iscrowd": 1,
        },
    )
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected[:, :2] = 80  # larger than the crowd, yet above it
    expected[:, 2] = 3
    np.testing.assert_array_equal(found, expected)


def test_parts_of_one_instance_are_one(instances):
    parts = trees.rectangle(0, 0, 2, 2) + trees.rectangle(5, 5, 3, 2)
    found = instances({"category_id": 18, "segmentation": parts})
    assert (found == 17).sum() == 10
    assert (found[5:7, 5:8] == 17).all()


def test_pixel_maps_win_over_instances(tree):
    """They are what the literature's numbers are from."""
    root, expected = tree("coco-object")
    trees.write_text(root / "annotations" / "instances_val2017.json", "not read")
    dataset = load_dataset("coco-object", root)
    assert "pixel maps" in dataset.labels_from
    np.testing.assert_array_equal(dataset[0].gt, expected["000000000139"])


@pytest.mark.parametrize(
    ("annotation", "match"),
    [
        ({"category_id": 12, "segmentation": trees.rectangle(0, 0, 2, 2)}, "the category 12"),
        ({"category_id": 1, "segmentation": {"counts": [0, 4], "size": [2, 2]}}, "damaged"),
        ({"category_id": 1, "segmentation": [[1, 2]]}, "damaged"),
        ({"category_id": 1, "segmentation": {"size": [10, 12]}}, "damaged"),
        ({"category_id": 1}, "damaged"),
    ],
)
def test_damaged_instances(instances, annotation, match):
    with refused(match):
        instances(annotation)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"images": [{}], "annotations": []}'])
def test_damaged_annotation_files(tmp_path, content):
    pytest.importorskip("pycocotools")
    trees.instances(tmp_path, [])
    (tmp_path / "annotations" / "instances_val2017.json").write_text(content)
    with refused(r"instances_val2017\.json"):
        load_dataset("coco-object", tmp_path)


def test_images_without_annotations(tmp_path):
    pytest.importorskip("pycocotools")
    trees.instances(tmp_path, [])
    path = tmp_path / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"images": content["images"][1:]}))
    with refused("no labels for 1 of 2 samples, the first 000000000139"):
        load_dataset("coco-object", tmp_path)


def test_without_pycocotools(tmp_path, monkeypatch):
    trees.instances(tmp_path, [])
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(ImportError, match=r"pip install 'lpprop\[eval\]'"):
        load_dataset("coco-object", tmp_path)


# --------------------------------------------------------------------------- what is refused


@every
def test_a_root_that_is_not_there(tmp_path, name):
    with refused("does not exist"):
        load_dataset(name, tmp_path / "nowhere")


@every
def test_a_root_of_another_layout(tmp_path, name):
    """What is there, what lacks, and what is expected, in one message."""
    (tmp_path / "something").mkdir()
    with refused(r"without .*it holds something") as caught:
        load_dataset(name, tmp_path)
    assert DATASETS[name].layout.format(split=DATASETS[name].split).split()[0] in str(caught.value)


@every
def test_images_without_labels(tree, name):
    root, expected = tree(name)
    last = list(expected)[-1]
    load_dataset(name, root).files[-1].labels.unlink()
    with refused(f"no labels for 1 of 2 samples, the first {last}"):
        load_dataset(name, root)


@pytest.mark.parametrize("name", ["voc21", "voc20", "context60", "context59"])
def test_listed_images_that_are_not_there(tree, name):
    root, expected = tree(name)
    (root / "JPEGImages" / f"{next(iter(expected))}.jpg").unlink()
    with refused("no image for 1 of 2 samples"):
        load_dataset(name, root)


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("voc21", 21),
        ("voc20", 21),
        ("context60", 60),
        ("context59", 60),
        ("coco-stuff", 11),
        ("coco-stuff", 182),
        ("coco-object", 90),
        ("coco-object", 200),
        ("cityscapes", 34),
        ("ade20k", 151),
        ("camvid", 12),
        ("loveda", 8),
        ("openearthmap", 9),
    ],
)
def test_labels_out_of_range(tree, name, stored):
    root, expected = tree(name)
    dataset = load_dataset(name, root)
    shape = next(iter(expected.values())).shape
    labels = np.ones(shape, dtype=np.uint8)
    labels[1, 2] = stored
    trees.write_labels(dataset.files[0].labels, labels)
    with refused(rf"with {stored} at 1 pixels, the first at \(1, 2\)"):
        dataset[0].gt  # noqa: B018


@every
def test_sizes_that_differ(tree, name):
    root, _ = tree(name)
    dataset = load_dataset(name, root)
    shape = (3, 5, 3) if name in trees.COLOURED else (3, 5)
    trees.write_labels(dataset.files[0].labels, np.zeros(shape, dtype=np.uint8))
    with refused("5 x 3 labels for"):
        dataset[0].gt  # noqa: B018


@pytest.mark.parametrize("kept", [0, 20, 60])
def test_damaged_files(tree, kept):
    root, _ = tree("voc21")
    dataset = load_dataset("voc21", root)
    for path in (dataset.files[0].image, dataset.files[0].labels):
        path.write_bytes(path.read_bytes()[:kept])
    what = "cannot be read" if kept else "is empty"
    with refused(rf"JPEGImages.*{what}"):
        dataset[0].image  # noqa: B018
    with refused(rf"SegmentationClass.*{what}"):
        dataset[0].gt  # noqa: B018
    assert dataset[1].gt.shape == dataset[1].image.size[::-1]  # the others are well


def test_labels_in_colour(tree):
    root, expected = tree("camvid")
    shape = next(iter(expected.values())).shape
    trees.write_labels(root / "labels" / "0016E5_07959.png", np.zeros((*shape, 3), dtype=np.uint8))
    with refused("'RGB'.*one label per pixel"):
        load_dataset("camvid", root)[0].gt  # noqa: B018


def test_labels_that_were_compressed(tree):
    """JPEG invents labels along every edge, whatever the file is called."""
    root, expected = tree("camvid")
    labels = np.zeros_like(next(iter(expected.values())))
    Image.fromarray(labels).save(root / "labels" / "0016E5_07959.png", format="JPEG")
    with refused("undamaged PNG"):
        load_dataset("camvid", root)[0].gt  # noqa: B018


def test_labels_of_16_bits(tree):
    root, expected = tree("camvid")
    path = root / "labels" / "0016E5_07959.png"
    labels = next(iter(expected.values())).astype(np.uint16)
    trees.write_labels(path, labels)
    np.testing.assert_array_equal(load_dataset("camvid", root)[0].gt, labels)
    trees.write_labels(path, labels + np.uint16(256))
    with refused("with 256, 257"):
        load_dataset("camvid", root)[0].gt  # noqa: B018


@every
def test_no_samples(tmp_path, name):
    trees.TREES[name](tmp_path)
    for path in tmp_path.rglob("*"):
        if path.suffix in (".jpg", ".png", ".tif"):
            path.unlink()
        elif path.suffix == ".txt":
            path.write_text("\n")
    with refused("without samples|without annotations"):
        load_dataset(name, tmp_path)


def test_duplicate_names(tree):
    root, _ = tree("voc21")
    listed = root / "ImageSets" / "Segmentation" / "val.txt"
    listed.write_text(listed.read_text() * 2)
    with refused("several samples named 2007_000033, 2011_000003"):
        load_dataset("voc21", root)


def test_unknown_names_and_splits(tree):
    root, _ = tree("voc21")
    with refused("'voc22'.*'voc21'"):
        load_dataset("voc22", root)
    with refused(r"test\.txt"):
        load_dataset("voc21", root, split="test")


def test_folders_without_a_split_are_not_taken_for_another(tree):
    root, _ = tree("camvid")
    assert len(load_dataset("camvid", root, split="val")) == 2
    with refused("without test, testannot"):
        load_dataset("camvid", root, split="test")


def test_camvid_in_segnets_folders(tree):
    root, expected = tree("camvid")
    (root / "images").rename(root / "test")
    (root / "labels").rename(root / "testannot")
    for sample in load_dataset("camvid", root, split="test"):
        np.testing.assert_array_equal(sample.gt, expected[sample.name])
    with refused("without val, valannot"):
        load_dataset("camvid", root)


def test_other_splits(tree):
    root, _ = tree("voc21")
    trees.write_text(root / "ImageSets" / "Segmentation" / "few.txt", "2007_000033\r\n\r\n")
    dataset = load_dataset("voc21", root, split="few")
    assert [sample.name for sample in dataset] == ["2007_000033"]


# --------------------------------------------------------------------------- pixels


def test_pixels_are_as_they_are_stored(tree):
    """An orientation in the metadata is not applied, since labels belong to the stored pixels."""
    root, expected = tree("voc21")
    path = root / "JPEGImages" / "2011_000003.jpg"
    with Image.open(path) as image:
        stored = image.convert("RGB")
        exif = image.getexif()
        exif[0x0112] = 6  # turn by a quarter
        stored.save(path, exif=exif, quality=95)
    assert load_image(path).size == stored.size[::-1]
    sample = load_dataset("voc21", root)[0]
    with pytest.warns(lpprop.InputWarning, match="2011_000003.jpg: its EXIF orientation 6") as said:
        assert sample.image.size == stored.size
    assert said[0].filename == __file__
    with Image.open(path) as image:
        np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(image))
    np.testing.assert_array_equal(sample.gt, expected["2011_000003"])


def test_grey_images_become_rgb(tree):
    root, expected = tree("voc21")
    grey = Image.new("L", expected["2011_000003"].shape[::-1], 77)
    grey.save(root / "JPEGImages" / "2011_000003.jpg")
    assert np.unique(load_dataset("voc21", root)[0].image).tolist() == [77]
    assert load_dataset("voc21", root)[0].image.mode == "RGB"


# --------------------------------------------------------------------------- own prompts, folders


def test_own_prompts(tree):
    root, expected = tree("camvid")
    dataset = load_dataset("camvid", root)
    prompts = [f"{prompt}; the {prompt}" for prompt in dataset.prompts]
    changed = dataclasses.replace(dataset, prompts=prompts)
    assert changed.class_names == dataset.class_names
    np.testing.assert_array_equal(changed[0].gt, expected["0016E5_07959"])
    with refused("10 for labels up to 10"):
        dataclasses.replace(dataset, prompts=prompts[:10])[0].gt  # noqa: B018


def test_own_folders(tmp_path):
    labels = trees.rows([0, 1, 2, 7, 255])
    for name in ("b.jpg", "a.webp"):
        trees.write_image(tmp_path / "in" / name, labels.shape)
        trees.write_labels(tmp_path / "gt" / f"{name[0]}.png", labels)
    prompts = ["sky", "road; street", "other = tree; wall"]
    ignored = (7, 255)
    dataset = dataset_from_folders(tmp_path / "in", tmp_path / "gt", prompts, ignored=ignored)
    assert [sample.name for sample in dataset] == ["a", "b"]
    assert dataset.class_names == ["sky", "road", "other"]
    np.testing.assert_array_equal(dataset[0].gt, trees.rows([0, 1, 2, 255, 255]))
    with refused("with 7 at 1 pixels"):
        dataset_from_folders(tmp_path / "in", tmp_path / "gt", prompts)[0].gt  # noqa: B018


def test_own_folders_that_cannot_be_used(tmp_path):
    trees.write_image(tmp_path / "in" / "a.png", (2, 2))
    with refused("gt, which does not exist"):
        dataset_from_folders(tmp_path / "in", tmp_path / "gt", ["a", "b"])
    (tmp_path / "gt").mkdir()
    with refused("no labels for 1 of 1 samples"):
        dataset_from_folders(tmp_path / "in", tmp_path / "gt", ["a", "b"])
    trees.write_labels(tmp_path / "gt" / "a.png", np.zeros((2, 2), dtype=np.uint8))
    for prompts in ([], ["a", "A"], "ab"):
        with refused("classes"):
            dataset_from_folders(tmp_path / "in", tmp_path / "gt", prompts)
    with refused("256 classes"):
        dataset_from_folders(tmp_path / "in", tmp_path / "gt", [str(i) for i in range(256)])
    for ignored in (256, -1, 0.5):
        with refused("ignored"):
            dataset_from_folders(tmp_path / "in", tmp_path / "gt", ["a"], ignored=[ignored])


def small_folders(root, suffix=".png", kind=None):
    """One image, of any format, and its labels."""
    for folder in ("in", "gt"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(root / "in" / f"a{suffix}", format=kind)
    trees.write_labels(root / "gt" / "a.png", np.eye(4, 6, dtype=np.uint8))
    return root / "in", root / "gt"


@pytest.mark.parametrize("suffix", [".PNG", ".JPG", ".Jpeg", ".bmp", ".PPM", ".webp"])
def test_own_files_in_capitals(tmp_path, suffix):
    images, labels = small_folders(tmp_path, suffix)
    (labels / "a.png").rename(labels / "a.PNG")
    dataset = dataset_from_folders(images, labels, ["sky", "road"])
    assert dataset.names == ["a"]
    np.testing.assert_array_equal(dataset[0].gt, np.eye(4, 6))
    assert dataset[0].image.size == (6, 4)


@every
def test_official_files_in_capitals(tree, name):
    """Copies through cameras and old file systems: .JPG and .PNG."""
    root, expected = tree(name)
    for path in sorted(root.rglob("*")):
        if path.suffix in (".jpg", ".png", ".tif"):
            path.rename(path.with_name(path.stem + path.suffix.upper()))
    dataset = load_dataset(name, root)
    assert dataset.names == list(expected)
    for sample in dataset:
        np.testing.assert_array_equal(sample.gt, expected[sample.name])


def test_two_label_files_of_one_name(tmp_path):
    images, labels = small_folders(tmp_path)
    shutil.copy(labels / "a.png", labels / "a.PNG")
    if len(list(labels.iterdir())) < 2:
        pytest.skip("this file system does not tell capitals apart")
    with refused("a.PNG and a.png"):
        dataset_from_folders(images, labels, ["sky", "road"])


@pytest.mark.parametrize(("suffix", "kind"), [(".tif", "TIFF"), (".TIFF", "TIFF"), (".gif", "GIF")])
def test_own_images_of_a_format_that_is_not_read(tmp_path, suffix, kind):
    """They are refused by name before the run, and not one by one within it."""
    images, labels = small_folders(tmp_path, suffix, kind)
    with refused(f"images: got a{suffix}, one of 1 such files"):
        dataset_from_folders(images, labels, ["sky", "road"])


def test_what_is_listed_is_read(tmp_path):
    for suffix in SUFFIXES:
        images, labels = small_folders(tmp_path / suffix[1:], suffix)
        assert dataset_from_folders(images, labels, ["sky", "road"])[0].image.size == (6, 4)


@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 6, 8, 9])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_an_orientation_is_told(tmp_path, orientation, suffix):
    images, labels = small_folders(tmp_path, suffix)
    path = images / f"a{suffix}"
    with Image.open(path) as image:
        exif = image.getexif()
        exif[0x0112] = orientation
        image.convert("RGB").save(path, exif=exif)
    with Image.open(path) as image:
        stored = np.asarray(image.convert("RGB"))
    dataset = dataset_from_folders(images, labels, ["sky", "road"])
    odd = orientation in (2, 3, 6, 8)
    told = rf"a{suffix}: its EXIF orientation {orientation} .* is not applied"
    with pytest.warns(lpprop.InputWarning, match=told) if odd else contextlib.nullcontext():
        np.testing.assert_array_equal(dataset[0].image, stored)


def test_damaged_metadata_of_a_good_image(tmp_path):
    images, labels = small_folders(tmp_path, ".jpg")
    with Image.open(images / "a.jpg") as image:
        image.convert("RGB").save(images / "a.jpg", exif=b"Exif\0\0MM\0*" + b"\xff" * 9)
    assert dataset_from_folders(images, labels, ["sky", "road"])[0].image.size == (6, 4)


def test_labels_that_count_from_1(tmp_path):
    images, labels = small_folders(tmp_path)
    trees.write_labels(labels / "a.png", 1 + np.eye(4, 6, dtype=np.uint8))
    with refused("Classes count from 0: where the labels count from 1, subtract 1."):
        dataset_from_folders(images, labels, ["sky", "road"])[0].gt  # noqa: B018


@pytest.mark.parametrize("folder", [None, 5, b"in", "a\0b"])
def test_folders_of_odd_types(tmp_path, folder):
    images, labels = small_folders(tmp_path)
    with refused("^images: "):
        dataset_from_folders(folder, labels, ["a", "b"])
    with refused("^labels: "):
        dataset_from_folders(images, folder, ["a", "b"])
    with refused("^root: "):
        load_dataset("voc20", folder)


@pytest.mark.parametrize("split", ["", 5, b"val", "../val", "a\0b"])
def test_splits_of_odd_types(tree, split):
    root, _ = tree("voc20")
    with refused("^split: "):
        load_dataset("voc20", root, split=split)


@pytest.mark.parametrize("ignored", [5, None, "255", [True], [np.nan], np.array(255)])
def test_ignored_labels_of_odd_types(tmp_path, ignored):
    with refused("^ignored: "):
        dataset_from_folders(*small_folders(tmp_path), ["a", "b"], ignored=ignored)


def test_ignored_labels_are_a_set(tmp_path):
    """Their order and kind make no other data set, as which a run would be refused."""
    folders = small_folders(tmp_path)
    first = dataset_from_folders(*folders, ["a", "b"], ignored=(7, 255))
    second = dataset_from_folders(*folders, ["a", "b"], ignored=np.array([255, 7, 7], np.uint8))
    assert first.labels_from == second.labels_from == "label maps, without 7, 255"


# --------------------------------------------------------------------------- the real thing


def test_camvid_in_full():
    if not CAMVID.is_dir():
        pytest.skip("CamVid is not beside this checkout")
    dataset = load_dataset("camvid", CAMVID)
    assert (len(dataset), dataset[0].name) == (24, "0016E5_07959")
    seen = set()
    for sample in dataset:
        assert sample.image.size == (480, 360)
        stored = np.asarray(Image.open(CAMVID / "labels" / f"{sample.name}.png"))
        np.testing.assert_array_equal(sample.gt == 255, stored == 11)
        np.testing.assert_array_equal(sample.gt[stored != 11], stored[stored != 11])
        seen |= set(np.unique(sample.gt).tolist())
    assert seen == {*range(11), 255}


def test_import_brings_no_optional_package():
    code = (
        "import sys, lpprop.evaluation.datasets;"
        "print([m for m in ('transformers', 'pycocotools', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------- the documentation


def test_the_documented_table():
    text = (Path(__file__).parents[1] / "docs" / "datasets.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:5]] for line in text.splitlines()]
    found = {row[0]: row[1:] for row in rows if row and row[0] in DATASETS}
    assert found == {
        name: [str(len(one.prompts)), one.split, str(one.size)] for name, one in DATASETS.items()
    }
