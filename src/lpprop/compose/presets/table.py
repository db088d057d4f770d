"""The presets: one table of the methods, from which help, docs and tests derive."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from lpprop._core.errors import InputError
from lpprop._core.options import hint
from lpprop.compose.chain import Chain
from lpprop.compose.fusion import Fusion
from lpprop.compose.presets.preset import Preset
from lpprop.refiners import (
    PAMR,
    AttentionPool,
    BilinearUpsample,
    ClassDistribution,
    ClassShares,
    CorrelationPool,
    DenseCRF,
    GuidedFilter,
    JointBilateralUpsample,
    KLDiscrepancy,
    LocalCRF,
    MaxVelocity,
    OptimalPath,
    PatchPropagation,
    PixelPropagation,
    RegionVote,
)

__all__ = ["FEATS_FROM", "METHODS", "by_name", "find", "markdown_table"]

#: Settings of the patch step by the model that made the feats (LPOSS, supplement 8.1).
FEATS_FROM: dict[str, dict[str, float]] = {
    "vit-b/16": {"k": 400, "gamma": 3.0, "patch_size": 16},
    "vit-b/8": {"k": 800, "gamma": 3.0, "patch_size": 8},
    "dinov2": {"k": 400, "gamma": 7.0, "patch_size": 14},
}

#: The patch size alone, for settings that suit the feats of any model.
_PATCH_SIZES = {
    name: {"patch_size": settings["patch_size"]} for name, settings in FEATS_FROM.items()
}

_LPOSS = "Stojnic et al., CVPR 2025 (LPOSS)"
_DSLO = "Li et al., 2026 (DSLO, arXiv:2604.07723)"
_Distribution = partial(ClassDistribution, early_rejection=True)
_AdaptivePropagation = partial(PatchPropagation, k="auto", gamma="auto", alpha="auto")
# Settings for clicks by docs/clicks.md; the solve has converged by then.
_ClickPropagation = partial(PatchPropagation, k=50, gamma="auto", max_iter=100)
_Path = partial(OptimalPath, norm="image")
_MajorityVote = partial(RegionVote, by="vote")


def _fuse(
    distribution: ClassDistribution,
    path: OptimalPath,
    velocity: MaxVelocity,
    upsample: JointBilateralUpsample,
    temperature: float | None = None,
) -> Chain:
    return Chain(distribution, Fusion(path, velocity), upsample, temperature=temperature)


_ROWS = (
    Preset(
        "bilinear",
        (BilinearUpsample,),
        paper="What all others start from",
        note="bilinear to pixels and nothing else",
        compared=True,
    ),
    Preset(
        "joint_bilateral",
        (JointBilateralUpsample,),
        paper="Kopf et al., SIGGRAPH 2007",
        note="joint bilateral upsampling to pixels and nothing else",
        details="With the constants of DSLO, whose last step it is.",
        compared=True,
    ),
    Preset(
        "auto",
        (_AdaptivePropagation, BilinearUpsample, partial(PixelPropagation, alpha=0.9)),
        paper=_LPOSS + "; settings of this package",
        note="label propagation over patches, then over pixels, as the image asks for",
        details="""
            What `lpprop.refine` does on a single image if no method is named. The published
            settings of LPOSS+ are for the patches of fifteen windows, and harm a single image.
            These follow from the image: 5 to 50 neighbours, the more the larger the smallest class
            is that wins anywhere; a gamma that spreads their weights whatever the kind of features;
            and an alpha that is the smaller the more similar patches agree on their class. The
            pixel step is a little weaker than the published one, so that borders that are right
            already stay. Where windows cut the image, `refine` takes `lposs+` in its place.
            `feats_from` sets the patch size. Figures by kind of start and of features:
            docs/transformer_study.md.
            """,
        feats_from=_PATCH_SIZES,
        windowed="lposs+",
        compared=True,
    ),
    Preset(
        "lposs",
        (PatchPropagation, BilinearUpsample),
        paper=_LPOSS,
        note="label propagation over patches, then bilinear to pixels",
        details="""
            41.3 mIoU over 8 datasets, up from MaskCLIP's 27.0, with sliding windows of 224 pixels
            at a stride of 112 over images whose shorter side is 448, logits by MaskCLIP ViT-B/16
            and feats by DINO ViT-B/16. `feats_from` names the model that made the feats, and sets
            the paper's k, gamma and patch size for it. Settings to try first, by kind of start and
            of features: docs/transformer_study.md.

            Deviations: logits on another grid than the feats are resized bilinearly to it; the
            authors resize the vision-language model's features instead, before they compare them
            with the text.
            """,
        feats_from=FEATS_FROM,
        compared=True,
    ),
    Preset(
        "lposs+",
        (PatchPropagation, BilinearUpsample, PixelPropagation),
        paper=_LPOSS,
        note="label propagation over patches, then over pixels",
        details="""
            42.1 mIoU over 8 datasets; protocol, deviations and settings to try as for `lposs`.
            alpha, max_iter and tol hold for both steps.
            """,
        feats_from=FEATS_FROM,
        compared=True,
    ),
    Preset(
        "clicks",
        (_ClickPropagation, ClassShares, BilinearUpsample, partial(PixelPropagation, alpha=0.99)),
        paper=_LPOSS + "; shares after Zhu and Ghahramani, 2002; settings of this package",
        note="label propagation from a few clicked patches, then over pixels",
        details="""
            For the logits of `lpprop.seed_logits`, which are 0 nearly everywhere. `lposs+` with 50
            neighbours, a gamma that follows from the features, a solve that converges, scores as
            shares of the classes between the two steps, so that patches far from a click count as
            much as those near one, and a stronger pixel step. What no click reaches goes to the
            nearest one. `feats_from` sets the patch size. Figures by the number of clicks:
            docs/clicks.md.
            """,
        feats_from=_PATCH_SIZES,
    ),
    Preset(
        "optimal_path",
        (_Distribution, _Path, JointBilateralUpsample),
        paper=_DSLO,
        note="the cost of transporting a class to the uniform distribution",
        details="""
            46.2 mIoU over 8 datasets, with logits by CLIP ViT-B/16 and attention by Stable
            Diffusion 2 (its first two up blocks, averaged), whole images. `temperature` is that of
            the attention that is built from the feats. Settings to try first, by kind of start:
            docs/transformer_study.md.
            """,
        compared=True,
    ),
    Preset(
        "max_velocity",
        (_Distribution, MaxVelocity, JointBilateralUpsample),
        paper=_DSLO,
        note="how soon a class arrives at each patch on a Markov chain",
        details="46.9 mIoU over 8 datasets; see `optimal_path`.",
        compared=True,
    ),
    Preset(
        "kl",
        (_Distribution, KLDiscrepancy, JointBilateralUpsample),
        paper=_DSLO + ", ablation",
        note="the KL divergence of a class from the uniform distribution alone",
        details="""
            Table 2, row IV: 19.6 mIoU over 4 datasets; the raw logits have 8.9 and the optimal path
            40.0. At a patch that no class has kept, all classes score 0 and tie; `nms=0` avoids
            that.
            """,
    ),
    Preset(
        "fusion",
        (_Distribution, _Path, MaxVelocity, JointBilateralUpsample),
        paper=_DSLO + ", ablation",
        note="optimal path and maximum velocity added",
        details="""
            Table 2, row VII: 38.4 mIoU over 4 datasets, below each of the two alone (40.0 and
            40.8). It is for study only.
            """,
        arrange=_fuse,
    ),
    Preset(
        "guided_filter",
        (BilinearUpsample, GuidedFilter),
        paper="He, Sun, Tang, TPAMI 2013",
        note="bilinear to pixels, then the guided filter",
        details="""
            Its radius and eps are this package's own: the paper has other tasks, with other values
            for each.
            """,
    ),
    Preset(
        "pamr",
        (BilinearUpsample, PAMR),
        paper="Araslanov and Roth, CVPR 2020",
        note="bilinear to pixels, then PAMR",
        details="""
            On top of LPOSS, with 5 iterations and dilations 8 and 16, it has 41.8 mIoU over 8
            datasets, while LPOSS has 41.3 and LPOSS+ 42.1 (Stojnic et al., CVPR 2025, supplement).
            `Chain(lpprop.presets.lposs(), lpprop.PAMR())` is that method.
            """,
        compared=True,
    ),
    Preset(
        "dense_crf",
        (BilinearUpsample, DenseCRF),
        paper="Krähenbühl and Koltun, NeurIPS 2011",
        note="bilinear to pixels, then DenseCRF",
        details="""
            Its scores are probabilities; pass scale=None if the logits are probabilities. On top of
            LPOSS it did not improve the results (Stojnic et al., CVPR 2025, supplement, which gives
            neither figures nor settings).
            """,
        package=("pydensecrf", "crf"),
        compared=True,
    ),
    Preset(
        "local_crf",
        (BilinearUpsample, LocalCRF),
        paper="Teichmann and Cipolla, BMVC 2019 (ConvCRF)",
        note="bilinear to pixels, then a random field of local neighbours",
        details="""
            DenseCRF's model within a square of 11 pixels: exact, on every device, differentiable,
            and without a compiler. Its scores are probabilities; pass scale=None if the logits are
            probabilities.

            Deviations: the kernels are normalised as in DenseCRF, whose weights are the defaults,
            and the image is not blurred; ConvCRF's code does not normalise, weighs all by 0.2, and
            blurs by 4. Figures: docs/baselines.md.
            """,
        compared=True,
    ),
    Preset(
        "attention_pool",
        (AttentionPool, BilinearUpsample),
        paper="Ahn and Kwak, CVPR 2018 (the random walk)",
        note="the mean of the scores that each patch attends to",
        details="""
            `steps` is how often; `temperature` is that of the attention that is built from the
            feats. Figures: docs/baselines.md.
            """,
    ),
    Preset(
        "clip_dinoiser",
        (CorrelationPool, BilinearUpsample),
        paper="Wysoczańska et al., ECCV 2024 (CLIP-DINOiser)",
        note="the mean of the scores of patches with similar feats",
        details="""
            Its pooling, by the cosines of DINO's features above 0.2. Features of other models have
            other cosines: with DINOv2's tokens a threshold of 0.2 averages nearly the whole image,
            and their values need one of 0.8 (docs/baselines.md).

            Deviations: scores are pooled, where the authors pool CLIP's features and compare them
            with the text afterwards; the feats are given, where the published model learns to
            predict DINO's cosines from CLIP; and no patch is given to the background.
            """,
    ),
    Preset(
        "region_vote",
        (BilinearUpsample, _MajorityVote),
        paper="Zhang et al., ICCV 2025 (CorrCLIP's map correction)",
        note="bilinear to pixels, then a majority vote in each region",
        details="""
            CorrCLIP gives each pixel to the largest of SAM 2's masks that hold it:
            `overlap="largest"`. Regions of any kind are taken here, and overlapping masks averaged.
            Where the scores are good already, a vote within regions that cross the borders of
            classes harms: docs/regions.md.
            """,
        compared=True,
    ),
    Preset(
        "lposs+regions",
        (PatchPropagation, BilinearUpsample, _MajorityVote),
        paper=_LPOSS + "; regions after Zhang et al., ICCV 2025",
        note="label propagation over patches, then a majority vote in each region",
        details="""
            A combination of this package's own: the vote in place of LPOSS+'s pixel step.
            """,
        feats_from=FEATS_FROM,
        compared=True,
    ),
)

#: The presets by the names that `method=` takes.
METHODS: dict[str, Preset] = {row.name: row for row in _ROWS}


def by_name(method: str, **options: Any) -> Chain:
    """Build the preset that a method's name stands for.

    Args:
        method: a key of `METHODS`, such as "lposs+", or its name in Python, `lposs_plus`.
        options: the preset's options.

    Returns:
        The chain.

    Raises:
        InputError: an unknown method or option, with the closest known one.
        ImportError: a package that the preset requires is not installed.

    >>> by_name("lposs+", k=100).needs
    ('feats', 'image')
    """
    return find(method)(**options)


def find(method: str | Preset) -> Preset:
    """Find the preset of a name.

    Args:
        method: as `by_name` takes it; a preset is returned unchanged.

    Returns:
        The row of the table.

    Raises:
        InputError: an unknown name, with the closest known one.

    >>> find("lposs_plus").name
    'lposs+'
    """
    if isinstance(method, Preset):
        return method
    known = METHODS | {preset.python_name: preset for preset in METHODS.values()}
    if not isinstance(method, str) or method not in known:
        raise InputError.of(
            "method",
            got=repr(method),
            expected=f"one of {', '.join(map(repr, METHODS))}, a module or a callable",
            fix=hint(str(method).lower(), METHODS, "Change method.", cutoff=0.3, show=repr),
        )
    return known[method]


def markdown_table() -> str:
    """Return the README's table of methods.

    >>> print(markdown_table().splitlines()[0])
    | `method=` | what it does | needs | after |
    """
    rows = ["| `method=` | what it does | needs | after |", "|---|---|---|---|"]
    for preset in METHODS.values():
        needs = ", ".join("attention or feats" if x == "attention" else x for x in preset.needs)
        extra = f" (extra `{preset.package[1]}`)" if preset.package else ""
        after = _short_name(preset.paper)
        rows.append(f'| `"{preset.name}"` | {preset.note}{extra} | {needs} | {after} |')
    return "\n".join(rows)


def _short_name(paper: str) -> str:
    """Return what people call a paper: the method's name, or its first author and the year.

    >>> _short_name("Stojnic et al., CVPR 2025 (LPOSS)"), _short_name("He, Sun, Tang, TPAMI 2013")
    ('LPOSS', 'He 2013')
    """
    if method := re.search(r"\(([A-Z][\w-]*)", paper):
        return method[1]
    cited = re.match(r"([\w-]+).* (\d{4})", paper)
    return f"{cited[1]} {cited[2]}" if cited else paper
