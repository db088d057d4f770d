"""Prototypes, and classification by references."""

import math

import torch

import lpprop
from error_tables.samples import FEATS, Elsewhere, spoilt

prototypes, classify = lpprop.prototypes, lpprop.classify_regions
LABELS = torch.arange(3 * 4 * 5).view(1, 12, 5).expand(2, -1, -1) % 3
MAPS = torch.arange(20).view(1, 4, 5).expand(2, -1, -1)
SETS = [torch.rand(2, 8), torch.rand(1, 8)]
OPPOSED = torch.stack([torch.eye(8)[0], -torch.eye(8)[0]], 1)[None, :, None]

# They can be known only once the work is done.
AFTERWARDS = {"features that cancel out"}

# fmt: off
TABLE = {
    "prototypes of labels that are floats": (lambda: prototypes(FEATS, LABELS.float(), classes=3),
        "labels: got dtype torch.float32, expected an integer dtype"),
    "prototypes of other images": (lambda: prototypes(FEATS, LABELS[:1], classes=3),
        "labels: got shape (1, 12, 5), expected (B=2, H, W), since feats has B=2"),
    "prototypes of NaN": (
        lambda: prototypes(spoilt(FEATS, math.nan, 0, 0, 0, 0), LABELS, classes=3),
        "feats: got 1 NaN or infinite"),
    "prototypes of turned labels": (
        lambda: prototypes(torch.rand(1, 64, 6, 9), torch.zeros(1, 144, 96).long(), classes=1),
        "labels: got 144 x 96 pixels, expected the aspect ratio of the image's 6 x 9. Height"),
    "class without a pixel": (lambda: prototypes(FEATS, LABELS, classes=["a", "b", "c", "sky"]),
        "labels: got no pixel of class sky, expected labelled pixels of every class. "),
    "label beyond the classes": (lambda: prototypes(FEATS, LABELS, classes=2),
        "labels: got the label 2, expected 0 to 1, a negative one or 255 (ignore_index)"),
    "no number of classes": (lambda: prototypes(FEATS, LABELS, classes=0),
        "classes: got 0, expected an integer >= 1"),
    "ignored class": (lambda: prototypes(FEATS, LABELS, classes=3, ignore_index=2),
        "ignore_index: got 2, expected an integer that is no index of the 3 classes"),
    "features that cancel out": (
        lambda: prototypes(OPPOSED, torch.zeros(1, 2, 2).long(), classes=1),
        "feats: got features that cancel out, or zeros, in class 0, expected features with"),
    "prototypes of other channels": (lambda: lpprop.prototype_logits(FEATS, torch.rand(3, 7)),
        "prototypes: got shape (3, 7), expected (C, D=8), since feats has D=8"),
    "prototype of zeros": (lambda: lpprop.prototype_logits(FEATS, 0 * torch.rand(3, 8)),
        "prototypes: got zeros in class 0, expected a direction for each class"),
    "references in one tensor": (lambda: classify(FEATS, MAPS, SETS[0]),
        "references: got Tensor, expected a list with (K_c, D) vectors of each class"),
    "no references": (lambda: classify(FEATS, MAPS, []), "references: got no class"),
    "references of other channels": (lambda: classify(FEATS, MAPS, [*SETS, torch.rand(2, 7)]),
        "references[2]: got shape (2, 7), expected (K2, D=8), since feats has D=8"),
    "references elsewhere": (
        lambda: classify(FEATS, MAPS, [SETS[0].as_subclass(Elsewhere), SETS[1]]),
        "references[0]: got a tensor on cuda, expected one on cpu, where feats is"),
    "reference of zeros": (lambda: classify(FEATS, MAPS, [0 * SETS[0], SETS[1]]),
        "references[0]: got zeros as vector 0, expected vectors with a direction"),
    "regions of other images": (lambda: classify(FEATS, MAPS[:1], SETS),
        "regions: got shape (1, 4, 5), expected (B=2, H, W)"),
    "unknown matching": (lambda: classify(FEATS, MAPS, SETS, matching="ranks"),
        "matching: got 'ranks', expected one of 'cosine', 'rank'. Did you mean 'rank'?"),
    "unknown reduce": (lambda: classify(FEATS, MAPS, SETS, reduce="sum"),
        "reduce: got 'sum', expected one of 'max', 'mean'"),
    "temperature of a ranking": (lambda: classify(FEATS, MAPS, SETS, temperature=0.0),
        "temperature: got 0.0, expected a number in [0.0001, inf)"),
}
