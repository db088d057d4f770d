"""Short names of the weights that propose regions, with their repositories on the Hugging Face hub.

They stand apart from the models, so that the command line knows them without an import that takes
long.
"""

__all__ = ["PANOPTIC", "PROMPTED", "SAM", "SAM2"]

#: Those that `SAM.from_pretrained` knows.
SAM: dict[str, str] = {
    "sam-vitb": "facebook/sam-vit-base",
    "sam-vitl": "facebook/sam-vit-large",
    "sam-vith": "facebook/sam-vit-huge",
    "sam-hq-vitb": "syscv-community/sam-hq-vit-base",
    "sam-hq-vith": "syscv-community/sam-hq-vit-huge",
}

#: Those that `SAM2.from_pretrained` knows; the weights of SAM 2 are those of version 2.1.
SAM2: dict[str, str] = {
    "sam2-hiera-tiny": "facebook/sam2.1-hiera-tiny",
    "sam2-hiera-small": "facebook/sam2.1-hiera-small",
    "sam2-hiera-base": "facebook/sam2.1-hiera-base-plus",
    "sam2-hiera-large": "facebook/sam2.1-hiera-large",
    "edgetam": "yonigozlan/EdgeTAM-hf",
    "sam3-tracker": "facebook/sam3",
}

#: Those that `PromptedSAM.from_pretrained` knows; the command line writes "prompted-sam-vitb".
PROMPTED: dict[str, str] = SAM | SAM2

#: Those that `Panoptic.from_pretrained` knows.
PANOPTIC: dict[str, str] = {
    "eomt-coco-large": "tue-mps/coco_panoptic_eomt_large_640",
    "eomt-dinov3-coco-large": "tue-mps/coco_panoptic_eomt_large_640_dinov3",
    "mask2former-coco-small": "facebook/mask2former-swin-small-coco-panoptic",
    "mask2former-coco-large": "facebook/mask2former-swin-large-coco-panoptic",
    "mask2former-cityscapes-large": "facebook/mask2former-swin-large-cityscapes-panoptic",
}
