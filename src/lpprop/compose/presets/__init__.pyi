# Written by tests/derived.py from the signatures of the functions.
# mypy: disable-error-code="override"
from collections.abc import Sequence
from typing import Literal

from lpprop.compose.chain import Chain
from lpprop.compose.presets.preset import Preset as Preset
from lpprop.compose.presets.table import FEATS_FROM as FEATS_FROM
from lpprop.compose.presets.table import METHODS as METHODS
from lpprop.compose.presets.table import by_name as by_name
from lpprop.compose.presets.table import find as find
from lpprop.compose.presets.table import markdown_table as markdown_table

class _Bilinear(Preset):
    def __call__(self) -> Chain: ...

bilinear: _Bilinear

class _JointBilateral(Preset):
    def __call__(
        self,
        *,
        sigma_space: float = 1.0,
        sigma_range: float = 0.31622776601683794,
        radius: int = 3,
        size: tuple[int, int] | None = None,
        backend: str = "auto",
    ) -> Chain: ...

joint_bilateral: _JointBilateral

class _Auto(Preset):
    def __call__(
        self,
        *,
        feats_from: Literal["vit-b/16", "vit-b/8", "dinov2"] = "vit-b/16",
        k: int | Literal["auto"] = "auto",
        gamma: float | Literal["auto"] = "auto",
        sigma: float = 0.01,
        alpha: float | Literal["auto"] = "auto",
        patch_size: float = 16,
        distance_power: float = 1.0,
        sigma_time: float = 0.0,
        max_iter: int = 10,
        tol: float = 1e-06,
        appearance: str = "power",
        sigma_a: float = 0.3333333333333333,
        spatial: str = "rbf",
        storage: str = "auto",
        tau: float = 0.01,
        r: int = 13,
        pixel_alpha: float = 0.9,
        pixel_sigma: float = 0.0,
        pixel_distance_power: float = 1.0,
        solver: str = "cg",
        backend: str = "auto",
        prune: bool = False,
    ) -> Chain: ...

auto: _Auto

class _Lposs(Preset):
    def __call__(
        self,
        *,
        feats_from: Literal["vit-b/16", "vit-b/8", "dinov2"] = "vit-b/16",
        k: int | Literal["auto"] = 400,
        gamma: float | Literal["auto"] = 3.0,
        sigma: float = 0.01,
        alpha: float | Literal["auto"] = 0.95,
        patch_size: float = 16,
        distance_power: float = 1.0,
        sigma_time: float = 0.0,
        max_iter: int = 10,
        tol: float = 1e-06,
        appearance: str = "power",
        sigma_a: float = 0.3333333333333333,
        spatial: str = "rbf",
        storage: str = "auto",
    ) -> Chain: ...

lposs: _Lposs

class _LpossPlus(Preset):
    def __call__(
        self,
        *,
        feats_from: Literal["vit-b/16", "vit-b/8", "dinov2"] = "vit-b/16",
        k: int | Literal["auto"] = 400,
        gamma: float | Literal["auto"] = 3.0,
        sigma: float = 0.01,
        alpha: float = 0.95,
        patch_size: float = 16,
        distance_power: float = 1.0,
        sigma_time: float = 0.0,
        max_iter: int = 10,
        tol: float = 1e-06,
        appearance: str = "power",
        sigma_a: float = 0.3333333333333333,
        spatial: str = "rbf",
        storage: str = "auto",
        tau: float = 0.01,
        r: int = 13,
        pixel_sigma: float = 0.0,
        pixel_distance_power: float = 1.0,
        solver: str = "cg",
        backend: str = "auto",
        prune: bool = False,
    ) -> Chain: ...

lposs_plus: _LpossPlus

class _Clicks(Preset):
    def __call__(
        self,
        *,
        feats_from: Literal["vit-b/16", "vit-b/8", "dinov2"] = "vit-b/16",
        k: int | Literal["auto"] = 50,
        gamma: float | Literal["auto"] = "auto",
        sigma: float = 0.01,
        alpha: float | Literal["auto"] = 0.95,
        patch_size: float = 16,
        distance_power: float = 1.0,
        sigma_time: float = 0.0,
        max_iter: int = 100,
        tol: float = 1e-06,
        appearance: str = "power",
        sigma_a: float = 0.3333333333333333,
        spatial: str = "rbf",
        storage: str = "auto",
        tau: float = 0.01,
        r: int = 13,
        pixel_alpha: float = 0.99,
        pixel_max_iter: int = 10,
        pixel_sigma: float = 0.0,
        pixel_distance_power: float = 1.0,
        solver: str = "cg",
        backend: str = "auto",
        prune: bool = False,
    ) -> Chain: ...

clicks: _Clicks

class _OptimalPath(Preset):
    def __call__(
        self,
        *,
        nms: float = 0.9,
        threshold: str = "relative",
        confidence: str = "softmax",
        logit_scale: float = 1.0,
        early_rejection: bool = True,
        epsilon: float = 0.1,
        iterations: int = 50,
        norm: str = "image",
        complement: bool = False,
        sigma_space: float = 1.0,
        sigma_range: float = 0.31622776601683794,
        radius: int = 3,
        size: tuple[int, int] | None = None,
        backend: str = "auto",
        temperature: float | None = None,
    ) -> Chain: ...

optimal_path: _OptimalPath

class _MaxVelocity(Preset):
    def __call__(
        self,
        *,
        nms: float = 0.9,
        threshold: str = "relative",
        confidence: str = "softmax",
        logit_scale: float = 1.0,
        early_rejection: bool = True,
        tau: float = 0.3,
        ipf_iterations: int = 15,
        criterion: str = "arrival",
        first_step: str = "m2n2",
        max_steps: int = 1000,
        sigma_space: float = 1.0,
        sigma_range: float = 0.31622776601683794,
        radius: int = 3,
        size: tuple[int, int] | None = None,
        backend: str = "auto",
        temperature: float | None = None,
    ) -> Chain: ...

max_velocity: _MaxVelocity

class _Kl(Preset):
    def __call__(
        self,
        *,
        nms: float = 0.9,
        threshold: str = "relative",
        confidence: str = "softmax",
        logit_scale: float = 1.0,
        early_rejection: bool = True,
        sigma_space: float = 1.0,
        sigma_range: float = 0.31622776601683794,
        radius: int = 3,
        size: tuple[int, int] | None = None,
        backend: str = "auto",
    ) -> Chain: ...

kl: _Kl

class _Fusion(Preset):
    def __call__(
        self,
        *,
        nms: float = 0.9,
        threshold: str = "relative",
        confidence: str = "softmax",
        logit_scale: float = 1.0,
        early_rejection: bool = True,
        epsilon: float = 0.1,
        iterations: int = 50,
        norm: str = "image",
        complement: bool = False,
        tau: float = 0.3,
        ipf_iterations: int = 15,
        criterion: str = "arrival",
        first_step: str = "m2n2",
        max_steps: int = 1000,
        sigma_space: float = 1.0,
        sigma_range: float = 0.31622776601683794,
        radius: int = 3,
        size: tuple[int, int] | None = None,
        backend: str = "auto",
        temperature: float | None = None,
    ) -> Chain: ...

fusion: _Fusion

class _GuidedFilter(Preset):
    def __call__(self, *, radius: int = 8, eps: float = 0.0001) -> Chain: ...

guided_filter: _GuidedFilter

class _Pamr(Preset):
    def __call__(self, *, iterations: int = 5, dilations: Sequence[int] = (8, 16)) -> Chain: ...

pamr: _Pamr

class _DenseCrf(Preset):
    def __call__(
        self,
        *,
        scale: float | str | None = "auto",
        iterations: int = 5,
        w1: float = 10.0,
        theta_alpha: float = 80.0,
        theta_beta: float = 13.0,
        w2: float = 3.0,
        theta_gamma: float = 3.0,
    ) -> Chain: ...

dense_crf: _DenseCrf

class _LocalCrf(Preset):
    def __call__(
        self,
        *,
        scale: float | str | None = "auto",
        iterations: int = 5,
        w1: float = 10.0,
        theta_alpha: float = 80.0,
        theta_beta: float = 13.0,
        w2: float = 3.0,
        theta_gamma: float = 3.0,
        r: int = 11,
        backend: str = "auto",
    ) -> Chain: ...

local_crf: _LocalCrf

class _AttentionPool(Preset):
    def __call__(self, *, steps: int = 1, temperature: float | None = None) -> Chain: ...

attention_pool: _AttentionPool

class _ClipDinoiser(Preset):
    def __call__(self, *, threshold: float = 0.2, steps: int = 1) -> Chain: ...

clip_dinoiser: _ClipDinoiser

class _RegionVote(Preset):
    def __call__(
        self,
        *,
        by: str = "vote",
        strength: float = 1.0,
        purity: float = 0.0,
        overlap: str = "average",
    ) -> Chain: ...

region_vote: _RegionVote

class _LpossRegions(Preset):
    def __call__(
        self,
        *,
        feats_from: Literal["vit-b/16", "vit-b/8", "dinov2"] = "vit-b/16",
        k: int | Literal["auto"] = 400,
        gamma: float | Literal["auto"] = 3.0,
        sigma: float = 0.01,
        alpha: float | Literal["auto"] = 0.95,
        patch_size: float = 16,
        distance_power: float = 1.0,
        sigma_time: float = 0.0,
        max_iter: int = 10,
        tol: float = 1e-06,
        appearance: str = "power",
        sigma_a: float = 0.3333333333333333,
        spatial: str = "rbf",
        storage: str = "auto",
        by: str = "vote",
        strength: float = 1.0,
        purity: float = 0.0,
        overlap: str = "average",
    ) -> Chain: ...

lposs_regions: _LpossRegions
