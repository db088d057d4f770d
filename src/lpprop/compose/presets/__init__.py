"""Presets: each returns a `Chain` with the settings of a paper.

    from lpprop import presets
    chain = presets.lposs_plus(feats_from="dinov2")
    scores = chain(logits, feats=feats, image=image)

`lpprop.refine(..., method="lposs+")` finds them by name, and fits patch_size to the image; a chain
that is called directly uses it unchanged. `help` shows a preset's paper and options.

>>> auto(alpha=0.5).steps[0].config["k"], lposs().steps[0].config["k"]
('auto', 400)
>>> lposs_plus(r=9, max_iter=20).steps[2]
PixelPropagation(tau=0.01, r=9, alpha=0.95, max_iter=20, tol=1e-06, sigma=0.0, ...)
>>> clicks(k=30).steps[0].k, clicks().steps[3].alpha
(30, 0.99)
>>> lposs(feats_from="dinov2", k=200).steps[0].config["gamma"]
7.0
>>> optimal_path(epsilon=0.05).needs, max_velocity.needs, kl.needs, bilinear.needs
(('attention', 'image'), ('attention', 'image'), ('image',), ())
>>> fusion(tau=0.5, epsilon=0.05).steps[1].steps[1]
MaxVelocity(tau=0.5, ipf_iterations=15, criterion='arrival', first_step='m2n2', max_steps=1000)
>>> pamr(iterations=10).steps[1], guided_filter(radius=4).steps[1]
(PAMR(iterations=10, dilations=(8, 16)), GuidedFilter(radius=4, eps=0.0001))
>>> joint_bilateral(radius=2).steps[0].radius
2
>>> print(dense_crf.note)
bilinear to pixels, then DenseCRF
>>> local_crf(r=7).steps[1].r, attention_pool(steps=2).steps[0], clip_dinoiser().steps[0]
(7, AttentionPool(steps=2), CorrelationPool(threshold=0.2, steps=1))
>>> region_vote.needs, lposs_regions(purity=0.5).steps[2]
(('regions',), RegionVote(by='vote', strength=1.0, purity=0.5, overlap='average'))
"""

from __future__ import annotations

from lpprop.compose.presets.preset import Preset
from lpprop.compose.presets.table import FEATS_FROM, METHODS, by_name, find, markdown_table

__all__ = ["FEATS_FROM", "METHODS", "Preset", "by_name", "find", "markdown_table"]
__all__ += [preset.python_name for preset in METHODS.values()]

globals().update({preset.python_name: preset for preset in METHODS.values()})


def __dir__() -> list[str]:
    return sorted(__all__)
