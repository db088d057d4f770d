"""Refine and compare small random inputs with the installed package: does the installation work?"""

import torch

import lpprop

logits, feats, image = torch.rand(1, 3, 4, 5), torch.rand(1, 8, 4, 5), torch.rand(1, 3, 64, 80)
for method in ("lposs", "lposs+", "max_velocity", "optimal_path", "pamr"):
    scores = lpprop.refine(logits, feats, image, method=method)
    assert scores.shape == (1, 3, 64, 80), method
for backend in ("torch", "llvm"):
    lpprop.propagate_pixels(scores, image, backend=backend)
gt = scores.argmax(1)[0].numpy()
print(lpprop.compare(logits, feats, image, gt=gt, methods=["bilinear", "lposs"], repeats=1))
