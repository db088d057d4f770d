"""Tiny data sets in the folders of the official downloads, with the labels expected of them.

Each builder writes a tree below a root and returns {name: classes (H, W)} in the expected order.
The stored labels and the expected ones are both written out, from the data sets' documentation.
"""

import json

import numpy as np
from PIL import Image

# The numbers of the 59 classes of PASCAL-Context among its 459, in the order of the classes.
CONTEXT_NUMBERS = [
    2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98, 104, 105, 113,
    115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295, 296, 308, 324, 326,
    347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440, 445, 454, 458,
]  # fmt: skip

# Cityscapes' label id: train id, of those that have one.
TRAIN_IDS = {
    7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12,
    26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
}  # fmt: skip

COCO_GAPS = [11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90]


# The colours of the classes, in their order, as the authors' tools have them.
ISAID_COLOURS = [
    (0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255),
    (0, 127, 63), (0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127),
    (0, 127, 191), (0, 127, 255), (0, 100, 155),
]  # fmt: skip
UAVID_COLOURS = [
    (0, 0, 0), (128, 0, 0), (128, 64, 128), (192, 0, 192), (0, 128, 0), (128, 128, 0), (64, 64, 0),
    (64, 0, 128),
]  # fmt: skip


def rows(values, width=8):
    """Lay values out as a map, the last one repeated to fill it."""
    values = list(values)
    values += [values[-1]] * (-len(values) % width)
    return np.array(values, dtype=np.uint8).reshape(-1, width)


def write_image(path, shape, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_labels(path, stored, palette=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(stored))
    if palette:
        image.putpalette(np.arange(768, dtype=np.uint8)[::-1].tobytes())
    image.save(path)


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _voc(root, expect):
    # Not in the order of the names: the list's own order is kept.
    stored = {"2011_000003": rows([*range(21), 255]), "2007_000033": rows([0, 255, 15])}
    for name, labels in stored.items():
        write_image(root / "JPEGImages" / f"{name}.jpg", labels.shape)
        write_labels(root / "SegmentationClass" / f"{name}.png", labels, palette=True)
    write_image(root / "JPEGImages" / "2007_000001.jpg", (4, 4))  # of another task
    write_text(root / "ImageSets" / "Segmentation" / "val.txt", "\n".join(stored) + "\n")
    return {name: expect(labels) for name, labels in stored.items()}


def voc21(root):
    return _voc(root, lambda labels: labels)


def voc20(root):
    return _voc(root, lambda labels: rows([255 if v in (0, 255) else v - 1 for v in labels.flat]))


def _context(root, expect):
    stored = {"2008_000002": rows(range(60)), "2008_000009": rows([59, 0, 1])}
    for name, labels in stored.items():
        write_image(root / "JPEGImages" / f"{name}.jpg", labels.shape)
        write_labels(root / "SegmentationClassContext" / f"{name}.png", labels)
    listed = root / "ImageSets" / "SegmentationContext" / "val.txt"
    write_text(listed, "\n".join(stored))
    return {name: expect(labels) for name, labels in stored.items()}


def context60(root):
    return _context(root, lambda labels: labels)


def context59(root):
    return _context(root, lambda labels: rows([255 if v == 0 else v - 1 for v in labels.flat]))


def context_mat(root, classes):
    """The authors' own files; `classes` are the 59, and all that is not among them comes as 0."""
    from scipy.io import savemat

    names = dict(zip(CONTEXT_NUMBERS, classes, strict=True))
    names |= {308: "pottedplant", 1: "accordion", 3: "air conditioner", 431: "unknown", 459: "wool"}
    lines = [f"{number}: {name}" for number, name in sorted(names.items())]
    write_text(root / "labels.txt", "\n".join(lines) + "\n")
    stored = np.array([*CONTEXT_NUMBERS, 1, 3, 431, 459, 0], dtype=np.uint16).reshape(8, 8)
    write_image(root / "JPEGImages" / "2008_000002.jpg", stored.shape)
    (root / "trainval").mkdir()
    savemat(root / "trainval" / "2008_000002.mat", {"LabelMap": stored})
    write_text(root / "ImageSets" / "Main" / "val.txt", "2008_000002\n")
    return np.array([*range(1, 60), 0, 0, 0, 0, 0], dtype=np.uint8).reshape(8, 8)


def _coco(root, expect):
    known = [number for number in range(182) if number not in COCO_GAPS]
    stored = {"000000000139": rows([*known, 255]), "000000000285": rows([255, 0, 89, 91])}
    for name, labels in stored.items():
        write_image(root / "images" / "val2017" / f"{name}.jpg", labels.shape)
        write_labels(root / "annotations" / "val2017" / f"{name}.png", labels)
        # What other programs leave beside them.
        write_labels(root / "annotations" / "val2017" / f"{name}_labelTrainIds.png", labels)
    return {name: expect(known, labels) for name, labels in stored.items()}


def coco_stuff(root):
    return _coco(
        root,
        lambda known, labels: rows([255 if v == 255 else known.index(v) for v in labels.flat]),
    )


def coco_object(root):
    return _coco(
        root, lambda known, labels: rows([known.index(v) + 1 if v < 90 else 0 for v in labels.flat])
    )


def cityscapes(root):
    stored = {
        "frankfurt/frankfurt_000000_000294": rows([*range(34), 255]),
        "munster/munster_000000_000019": rows([26, 0, 7]),
    }
    for name, labels in stored.items():
        write_image(root / "leftImg8bit" / "val" / f"{name}_leftImg8bit.png", labels.shape)
        write_labels(root / "gtFine" / "val" / f"{name}_gtFine_labelIds.png", labels)
        write_labels(root / "gtFine" / "val" / f"{name}_gtFine_instanceIds.png", labels)
    return {
        name.split("/")[1]: rows([TRAIN_IDS.get(v, 255) for v in labels.flat])
        for name, labels in stored.items()
    }


def ade20k(root):
    stored = {"ADE_val_00000001": rows(range(151)), "ADE_val_00000002": rows([150, 0, 1])}
    for name, labels in stored.items():
        write_image(root / "images" / "validation" / f"{name}.jpg", labels.shape)
        write_labels(root / "annotations" / "validation" / f"{name}.png", labels)
    return {
        name: rows([255 if v == 0 else v - 1 for v in labels.flat])
        for name, labels in stored.items()
    }


def camvid(root):
    stored = {"0016E5_07959": rows(range(12)), "0016E5_07967": rows([11, 10, 0])}
    for name, labels in stored.items():
        write_image(root / "images" / f"{name}.png", labels.shape)
        write_labels(root / "labels" / f"{name}.png", labels)
    return {
        name: rows([255 if v == 11 else v for v in labels.flat]) for name, labels in stored.items()
    }


def loveda(root):
    stored = {"Rural/2522": rows([*range(8), 0]), "Urban/3514": rows([7, 0, 1])}
    for name, labels in stored.items():
        area, number = name.split("/")
        write_image(root / "Val" / area / "images_png" / f"{number}.png", labels.shape)
        write_labels(root / "Val" / area / "masks_png" / f"{number}.png", labels)
    return {
        name.split("/")[1]: rows([255 if v == 0 else v - 1 for v in labels.flat])
        for name, labels in stored.items()
    }


def isaid(root):
    """In the folders of the development kit, with the instances beside the classes."""
    classes = {"P0003": rows(range(16)), "P0004": rows([15, 0, 1])}
    for name, labels in classes.items():
        write_image(root / "val" / "images" / f"{name}.png", labels.shape)
        colours = np.array(ISAID_COLOURS, dtype=np.uint8)[labels]
        write_labels(root / "val" / "images" / f"{name}_instance_color_RGB.png", colours)
        write_labels(root / "val" / "images" / f"{name}_instance_id_RGB.png", colours[..., ::-1])
    return classes


def isaid_patches(root):
    """As MMSegmentation's converter leaves them: BMP files called .png, and padding of 255."""
    stored = {"P0003_0_896_0_896": rows([*range(16), 255]), "P0003_0_896_512_1408": rows([15, 255])}
    for name, labels in stored.items():
        path = root / "img_dir" / "val" / f"{name}.png"
        write_image(path, labels.shape)
        Image.open(path).save(path, format="BMP")
        write_labels(root / "ann_dir" / "val" / f"{name}_instance_color_RGB.png", labels, True)
    return stored


def uavid(root):
    """Frames of several sequences have one name."""
    classes = {"seq16/000000": rows(range(8)), "seq17/000000": rows([7, 0, 1])}
    for name, labels in classes.items():
        sequence, frame = name.split("/")
        folder = root / "uavid_val" / sequence
        write_image(folder / "Images" / f"{frame}.png", labels.shape)
        colours = np.array(UAVID_COLOURS, dtype=np.uint8)[labels]
        write_labels(folder / "Labels" / f"{frame}.png", colours)
    return {name.replace("/", "_"): labels for name, labels in classes.items()}


def openearthmap(root):
    # Not in the order of the names; the region is all but the last part of a name.
    stored = {"buenos_aires_11": rows(range(9)), "aachen_5": rows([8, 0, 1])}
    for name, labels in stored.items():
        region = root / name.rpartition("_")[0]
        write_image(region / "images" / f"{name}.tif", labels.shape)
        write_labels(region / "labels" / f"{name}.tif", labels)
    write_image(root / "aachen" / "images" / "aachen_1.tif", (4, 4))  # of another split
    write_text(root / "val.txt", "".join(f"{name}.tif\n" for name in stored))
    return {
        name: rows([255 if v == 0 else v - 1 for v in labels.flat])
        for name, labels in stored.items()
    }


TREES = {
    "voc21": voc21,
    "voc20": voc20,
    "context60": context60,
    "context59": context59,
    "coco-object": coco_object,
    "coco-stuff": coco_stuff,
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "camvid": camvid,
    "loveda": loveda,
    "isaid": isaid,
    "uavid": uavid,
    "openearthmap": openearthmap,
}

# Data sets whose labels are stored as colours.
COLOURED = ("isaid", "uavid")


def rectangle(x, y, width, height):
    """A polygon whose pixels are columns x to x + width - 1 and rows y to y + height - 1."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def instances(root, annotations, height=10, width=12):
    """COCO's images and instances without pixel maps: 139 has the annotations, 285 has none."""
    images = []
    for number in (139, 285):
        name = f"{number:012d}.jpg"
        write_image(root / "val2017" / name, (height, width))
        images.append({"id": number, "file_name": name, "height": height, "width": width})
    listed = [{"image_id": 139, "iscrowd": 0, **one} for one in annotations]
    content = json.dumps({"images": images, "annotations": listed})
    write_text(root / "annotations" / "instances_val2017.json", content)
