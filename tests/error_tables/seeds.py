"""Clicks."""

import numpy as np
import torch

from lpprop import class_shares, seed_logits

POINTS, LABELS, SIZE = [[1, 2], [3, 4]], [0, 1], (10, 20)


def seeds(points=POINTS, labels=LABELS, size=SIZE, **options):
    return lambda: seed_logits(points, labels, size, **options)


# fmt: off
TABLE = {
    "seeds: no click": (seeds([], []),
        "points: got shape (0,) of torch.float64, expected (n, 2) numbers, the row and the column "
        "of at least one click. Pass [[row, column], ...]; without a click there is nothing to "
        "start from."),
    "seeds: no click in an array": (seeds(np.zeros((0, 2)), np.zeros(0, int)),
        "points: got shape (0, 2)"),
    "seeds: one click without its axis": (seeds([1, 2], [0]), "points: got shape (2,)"),
    "seeds: clicks in three dimensions": (seeds([[1, 2, 3]], [0]), "points: got shape (1, 3)"),
    "seeds: clicks of several lengths": (seeds([[1, 2], [3]]), "points: got dtype object"),
    "seeds: a click without values in a list": (seeds([torch.ones(2, device="meta"), [1, 2]]),
        "points: got a tensor without values (meta)"),
    "seeds: clicks in words": (seeds("12", [0]), "points: got str"),
    "seeds: a mask of clicks": (seeds(torch.ones(4, 2).bool()),
        "points: got shape (4, 2) of torch.bool"),
    "seeds: complex clicks": (seeds(torch.ones(2, 2, dtype=torch.complex64)),
        "points: got shape (2, 2) of torch.complex64"),
    "seeds: complex labels": (seeds(labels=torch.ones(2, dtype=torch.complex64)),
        "labels: got shape (2,) of torch.complex64"),
    "seeds: a click below": (seeds([[1, 2], [10, 4], [-1, 3]], [0, 1, 1]),
        "points: got points[1] at (10, 4) and 1 more, outside of an image of 10 x 20 pixels, "
        "expected rows in [0, 10) and columns in [0, 20). Pass the row first, then the column, and "
        "size=(height, width)."),
    "seeds: a click at NaN": (seeds([[1, 2], [3, float("nan")]]),
        "points: got points[1] at (3, nan), outside of an image"),
    "seeds: a click by its column first": (seeds([[19, 9]], [0]),
        "points: got points[0] at (19, 9)"),
    "seeds: labels of another number": (seeds(labels=[0]), "labels: got 1 labels beside 2 points"),
    "seeds: labels of floats": (seeds(labels=[0.0, 1.0]),
        "labels: got shape (2,) of torch.float64, expected (n,) integers, the class of each click"),
    "seeds: labels of two axes": (seeds(labels=[[0], [1]]), "labels: got shape (2, 1)"),
    "seeds: labels by name": (seeds(labels=["cat", "dog"]), "labels: got dtype <U3"),
    "seeds: a negative label": (seeds(labels=[0, -1]),
        "labels: got labels[1] = -1, expected class indices from 0. Leave out clicks without a "
        "class, or give the background a class of its own."),
    "seeds: a label beyond the classes": (seeds(classes=1),
        "labels: got labels[1] = 1, expected class indices below 1, the number of classes"),
    "seeds: a label beyond the names": (seeds(classes=["cat"]), "labels: got labels[1] = 1"),
    "seeds: no classes": (seeds(classes=0), "classes: got 0"),
    "seeds: classes in one text": (seeds(classes="cat"), "classes: got 'cat'"),
    "seeds: a size of one number": (seeds(size=10), "size: got 10"),
    "seeds: a grid of one number": (seeds(grid=10), "grid: got 10"),
    "seeds: a negative radius": (seeds(radius=-1), "radius: got -1"),
    "seeds: a radius of infinity": (seeds(radius=float("inf")), "radius: got inf"),
    "seeds: too many classes": (seeds(classes=10**9, grid=(64, 64)),
        "grid: got 1000000000 classes on a grid of 64 x 64, which need"),
    "seeds: too large discs": (
        seeds([[1, 2]] * 10**5, [0] * 10**5, (4000, 4000), radius=300, grid=(9, 9)),
        "radius: got 100000 discs of 601 x 601 pixels, which need"),
    # class_shares
    "shares of three axes": (lambda: class_shares(torch.rand(3, 4, 5)),
        "logits: got shape (3, 4, 5)"),
    "shares of integers": (lambda: class_shares(torch.ones(1, 3, 4, 5).long()),
        "logits: got dtype torch.int64"),
}
# fmt: on
