"""Whole models: a backbone, an affinity and a method."""

from lpprop.models.diffusion_references import references_from_diffusion
from lpprop.models.recipes import RECIPES, Recipe
from lpprop.models.reference_backbone import ReferenceBackbone
from lpprop.models.references import References
from lpprop.models.segmenter import Segmentation, Segmenter

__all__ = [
    "RECIPES",
    "Recipe",
    "ReferenceBackbone",
    "References",
    "Segmentation",
    "Segmenter",
    "references_from_diffusion",
]
