# Written by tests/derived.py from the signatures of the functions.
# mypy: disable-error-code="override"
from collections.abc import Sequence
from typing import Literal

from lpprop._core.refiner import Refiner
from lpprop.refiners._attention_pool import attention_pool as attention_pool
from lpprop.refiners._attention_pool import correlation_pool as correlation_pool
from lpprop.refiners._bilinear import bilinear_upsample as bilinear_upsample
from lpprop.refiners._class_distribution import class_distribution as class_distribution
from lpprop.refiners._class_shares import class_shares as class_shares
from lpprop.refiners._dense_crf import dense_crf as dense_crf
from lpprop.refiners._guided_filter import guided_filter as guided_filter
from lpprop.refiners._joint_bilateral import joint_bilateral_upsample as joint_bilateral_upsample
from lpprop.refiners._kl import kl_discrepancy as kl_discrepancy
from lpprop.refiners._local_crf import local_crf as local_crf
from lpprop.refiners._max_velocity import max_velocity as max_velocity
from lpprop.refiners._optimal_path import optimal_path as optimal_path
from lpprop.refiners._pamr import pamr as pamr
from lpprop.refiners._patch_propagation import propagate_patches as propagate_patches
from lpprop.refiners._pixel_propagation import propagate_pixels as propagate_pixels
from lpprop.refiners._region_vote import region_vote as region_vote

__all__ = [
    "PAMR",
    "AttentionPool",
    "BilinearUpsample",
    "ClassDistribution",
    "ClassShares",
    "CorrelationPool",
    "DenseCRF",
    "GuidedFilter",
    "JointBilateralUpsample",
    "KLDiscrepancy",
    "LocalCRF",
    "MaxVelocity",
    "OptimalPath",
    "PatchPropagation",
    "PixelPropagation",
    "RegionVote",
    "attention_pool",
    "bilinear_upsample",
    "class_distribution",
    "class_shares",
    "correlation_pool",
    "dense_crf",
    "guided_filter",
    "joint_bilateral_upsample",
    "kl_discrepancy",
    "local_crf",
    "max_velocity",
    "optimal_path",
    "pamr",
    "propagate_patches",
    "propagate_pixels",
    "region_vote",
]

class AttentionPool(Refiner):
    steps: int

    def __init__(self, *, steps: int = 1) -> None: ...

class BilinearUpsample(Refiner):
    def __init__(self) -> None: ...

class ClassDistribution(Refiner):
    nms: float
    threshold: str
    confidence: str
    logit_scale: float
    early_rejection: bool

    def __init__(
        self,
        *,
        nms: float = 0.9,
        threshold: str = "relative",
        confidence: str = "softmax",
        logit_scale: float = 1.0,
        early_rejection: bool = False,
    ) -> None: ...

class ClassShares(Refiner):
    def __init__(self) -> None: ...

class CorrelationPool(Refiner):
    threshold: float
    steps: int

    def __init__(self, *, threshold: float = 0.2, steps: int = 1) -> None: ...

class DenseCRF(Refiner):
    scale: float | str | None
    iterations: int
    w1: float
    theta_alpha: float
    theta_beta: float
    w2: float
    theta_gamma: float

    def __init__(
        self,
        *,
        scale: float | str | None = "auto",
        iterations: int = 5,
        w1: float = 10.0,
        theta_alpha: float = 80.0,
        theta_beta: float = 13.0,
        w2: float = 3.0,
        theta_gamma: float = 3.0,
    ) -> None: ...

class GuidedFilter(Refiner):
    radius: int
    eps: float

    def __init__(self, *, radius: int = 8, eps: float = 0.0001) -> None: ...

class JointBilateralUpsample(Refiner):
    sigma_space: float
    sigma_range: float
    radius: int
    size: tuple[int, int] | None
    backend: str

    def __init__(
        self,
        *,
        sigma_space: float = 1.0,
        sigma_range: float = 0.31622776601683794,
        radius: int = 3,
        size: tuple[int, int] | None = None,
        backend: str = "auto",
    ) -> None: ...

class KLDiscrepancy(Refiner):
    def __init__(self) -> None: ...

class LocalCRF(Refiner):
    scale: float | str | None
    iterations: int
    w1: float
    theta_alpha: float
    theta_beta: float
    w2: float
    theta_gamma: float
    r: int
    backend: str

    def __init__(
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
    ) -> None: ...

class MaxVelocity(Refiner):
    tau: float
    ipf_iterations: int
    criterion: str
    first_step: str
    max_steps: int

    def __init__(
        self,
        *,
        tau: float = 0.3,
        ipf_iterations: int = 15,
        criterion: str = "arrival",
        first_step: str = "m2n2",
        max_steps: int = 1000,
    ) -> None: ...

class OptimalPath(Refiner):
    epsilon: float
    iterations: int
    norm: str
    complement: bool

    def __init__(
        self,
        *,
        epsilon: float = 0.1,
        iterations: int = 50,
        norm: str = "none",
        complement: bool = False,
    ) -> None: ...

class PAMR(Refiner):
    iterations: int
    dilations: Sequence[int]

    def __init__(self, *, iterations: int = 5, dilations: Sequence[int] = (8, 16)) -> None: ...

class PatchPropagation(Refiner):
    k: int | Literal["auto"]
    gamma: float | Literal["auto"]
    sigma: float
    alpha: float | Literal["auto"]
    patch_size: float
    distance_power: float
    sigma_time: float
    max_iter: int
    tol: float
    appearance: str
    sigma_a: float
    spatial: str
    storage: str

    def __init__(
        self,
        *,
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
    ) -> None: ...

class PixelPropagation(Refiner):
    tau: float
    r: int
    alpha: float
    max_iter: int
    tol: float
    sigma: float
    distance_power: float
    solver: str
    backend: str
    prune: bool

    def __init__(
        self,
        *,
        tau: float = 0.01,
        r: int = 13,
        alpha: float = 0.95,
        max_iter: int = 10,
        tol: float = 1e-06,
        sigma: float = 0.0,
        distance_power: float = 1.0,
        solver: str = "cg",
        backend: str = "auto",
        prune: bool = False,
    ) -> None: ...

class RegionVote(Refiner):
    by: str
    strength: float
    purity: float
    overlap: str

    def __init__(
        self,
        *,
        by: str = "mean",
        strength: float = 1.0,
        purity: float = 0.0,
        overlap: str = "average",
    ) -> None: ...
