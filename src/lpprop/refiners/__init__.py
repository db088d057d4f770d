"""All refiners: one algorithm per file, as a function and as a module.

The names of the files begin with an underscore, so that no function hides the file of its name;
import from here.
"""

from lpprop._core.optional import import_later

# Each file with what it has; imported when it is asked for.
_FILES = {
    "_attention_pool": ("AttentionPool", "CorrelationPool", "attention_pool", "correlation_pool"),
    "_bilinear": ("BilinearUpsample", "bilinear_upsample"),
    "_class_distribution": ("ClassDistribution", "class_distribution"),
    "_class_shares": ("ClassShares", "class_shares"),
    "_dense_crf": ("DenseCRF", "dense_crf"),
    "_guided_filter": ("GuidedFilter", "guided_filter"),
    "_joint_bilateral": ("JointBilateralUpsample", "joint_bilateral_upsample"),
    "_kl": ("KLDiscrepancy", "kl_discrepancy"),
    "_local_crf": ("LocalCRF", "local_crf"),
    "_max_velocity": ("MaxVelocity", "max_velocity"),
    "_optimal_path": ("OptimalPath", "optimal_path"),
    "_pamr": ("PAMR", "pamr"),
    "_patch_propagation": ("PatchPropagation", "propagate_patches"),
    "_pixel_propagation": ("PixelPropagation", "propagate_pixels"),
    "_region_vote": ("RegionVote", "region_vote"),
}
_NAMES = {name: file for file, names in _FILES.items() for name in names}

__all__ = sorted(_NAMES)

__getattr__ = import_later(__name__, _NAMES)


def __dir__() -> list[str]:
    return __all__
