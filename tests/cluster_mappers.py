"""Objects that map images quickly, slowly or fatally, for the tests of clusters."""

import os
import time
from pathlib import Path

import numpy as np
import torch

from lpprop.batch.base import BatchMap
from lpprop.batch.inputs import as_picture


class Threshold(BatchMap):
    """Label the pixels brighter than 127 by 1; take some time, and tell where that happens.

    Args:
        seconds: how long an image takes.
        diary: a folder in which each process writes a file with its own number as its name.
        fatal: the bytes of an image at which the process ends.
    """

    def __init__(self, seconds=0.0, diary=None, fatal=None):
        config = {"seconds": seconds, "diary": diary, "fatal": fatal}
        super().__init__(outputs=["labels"], keep=[], device="cpu", **config)

    def _names_of(self, config):
        return ["image"]

    def _required(self):
        return ("image",)

    def _load(self, device):
        if self.config["diary"]:
            Path(self.config["diary"], str(os.getpid())).touch()

    def _score(self, item):
        if item["image"] == self.config["fatal"]:
            os._exit(7)
        time.sleep(self.config["seconds"])
        grey = np.asarray(as_picture(item["image"], upright=True).convert("L"))
        bright = torch.from_numpy(grey.copy()) > 127
        return torch.stack([~bright, bright])[None].float()
