"""Label maps, as metrics and pictures take them."""

import numpy as np
from PIL import Image

import lpprop
from error_tables.samples import LOGITS
from lpprop.comparison import compare
from lpprop.evaluation import confusion_matrix
from lpprop.viz.drawing import colorize

INTEGERS = (
    "expected integers (H, W). Take the argmax of scores, one item of a batch; turn colours into "
    "class indices."
)
NUMBERED = "Check the number of classes, and how the labels are numbered."

# fmt: off
TABLE = {
    "label map of floats": (lambda: colorize(np.zeros((2, 3)), 2),
        "labels: got shape (2, 3) of float64, " + INTEGERS),
    "label map with a batch": (lambda: colorize(np.zeros((1, 2, 3), int), 2),
        "labels: got shape (1, 2, 3) of int64, " + INTEGERS),
    "label map without pixels": (lambda: colorize(np.zeros((0, 3), int), 2),
        "labels: got shape (0, 3) of int64, " + INTEGERS),
    "label map in colour": (lambda: colorize(Image.new("RGB", (3, 2)), 2),
        "labels: got an image of mode 'RGB', " + INTEGERS),
    "label too large": (lambda: colorize([[0, 2]], 2),
        f"labels: got the label 2, expected 0 to 1. {NUMBERED}"),
    "names without an order": (lambda: compare(LOGITS[:1], size=(2, 2), class_names={"a"}),
        f"class_names: got {{'a'}}, expected {LOGITS.shape[1]} strings, one per class. "
        "Pass a list of names, in the order of the classes."),
    "label below 0": (lambda: confusion_matrix([[0, 0]], [[0, -1]], 2),
        f"gt: got the label -1, expected 0 to 1, or 255 (ignore_index). {NUMBERED}"),
    "label map with masked pixels": (
        lambda: colorize(np.ma.array([[0, 1]], mask=[[False, True]]), 2),
        "labels: got an array with 1 masked of 2 values, expected a value everywhere. Fill them in "
        "first, with array.filled(value)."),
    "scores with masked values": (
        lambda: lpprop.refine(np.ma.array(np.ones((2, 2, 2)), mask=True), method="bilinear",
                              size=(4, 4)),
        "logits: got an array with 8 masked of 8 values"),
    "label map that is no array": (lambda: colorize([[0, 1], [0]], 2),
        "labels: got list, which is no array, " + INTEGERS),
    "ignore_index of a class": (lambda: confusion_matrix([[0]], [[0]], 2, ignore_index=1),
        "ignore_index: got 1, expected an integer that is no index of the 2 classes. Use another, "
        "such as -1. To leave out class 0, apply reduce_zero_label."),
}
