"""Models that make logits and feats; nothing below this package imports one."""

from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.backbones.efficientnet_lite import EfficientNetLite0
from lpprop.backbones.imagenet import ClassGroups, class_groups, imagenet_classes

__all__ = [
    "Backbone",
    "BackboneOutput",
    "ClassGroups",
    "EfficientNetLite0",
    "class_groups",
    "imagenet_classes",
]
