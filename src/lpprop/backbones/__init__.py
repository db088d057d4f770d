"""Models that make logits, feats and attention from images."""

from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.backbones.clip import MaskCLIP
from lpprop.backbones.diffusion_pipeline import load_diffusion_pipeline
from lpprop.backbones.efficientnet_lite import EfficientNetLite0
from lpprop.backbones.imagenet import ClassGroups, class_groups, imagenet_classes
from lpprop.backbones.prompts import BACKGROUND_PROMPTS, IMAGENET_BEST, IMAGENET_TEMPLATES, PLAIN
from lpprop.backbones.sam3 import SAM3Concepts
from lpprop.backbones.stable_diffusion import StableDiffusion
from lpprop.backbones.tips import MaskTIPS
from lpprop.backbones.vision_transformer import VisionTransformer

__all__ = [
    "BACKGROUND_PROMPTS",
    "IMAGENET_BEST",
    "IMAGENET_TEMPLATES",
    "PLAIN",
    "Backbone",
    "BackboneOutput",
    "ClassGroups",
    "EfficientNetLite0",
    "MaskCLIP",
    "MaskTIPS",
    "SAM3Concepts",
    "StableDiffusion",
    "VisionTransformer",
    "class_groups",
    "imagenet_classes",
    "load_diffusion_pipeline",
]
