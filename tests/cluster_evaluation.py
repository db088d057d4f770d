"""A data set and a predictor that the workers of a cluster can import."""

from types import SimpleNamespace

import numpy as np
from PIL import Image


class Noise:
    """Label maps of three classes at random; an image is its labels in grey."""

    name, class_names = "noise", ["sky", "road", "tree"]

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        gt = np.random.default_rng(index).integers(0, 3, (24, 32))
        return SimpleNamespace(name=f"{index}", image=Image.fromarray(gt.astype(np.uint8)), gt=gt)


class Shifted:
    """Give the labels of the sample, moved to the right."""

    def __init__(self, step):
        self.step = step

    def __call__(self, sample):
        return np.roll(sample.gt, self.step, axis=1)

    def __repr__(self):
        return f"Shifted({self.step})"
