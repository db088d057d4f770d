"""The first step of the velocity, by mIoU: `python -m benchmarks.first_step CHECKPOINT FOLDER...`.

CHECKPOINT holds DINOv2 ViT-S/14, and each FOLDER is that of `benchmarks.camvid`. The script prints
a table of docs/discrepancy.md: `max_velocity(first_step=)` with the model's own attention over
26 x 35 patches, after bilinear upsampling and after that of the preset, from the starts of
`benchmarks.discrepancy_choices`.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F

import lpprop
from lpprop.backbones import VisionTransformer

from .camvid.starts import CLASSES
from .discrepancy_choices import Scenes, load_labelled, mean_iou, probe, relabelled

GRID = (26, 35)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_step")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folders", type=Path, nargs="+", help="with images/ and labels/")
    args = parser.parse_args()
    backbone = VisionTransformer.from_pretrained(
        str(args.checkpoint), dtype=torch.float32, features="token", attention="query-key"
    )
    print("| images | start | upsampling | bilinear alone | `linear` | `m2n2` |")
    print("|---|---|---|--:|--:|--:|")
    for folder in args.folders:
        images, labels = load_labelled(folder)
        size = tuple(14 * side for side in GRID)
        seen = [backbone(F.interpolate(x, size, mode="bilinear")) for x in images.split(1)]
        one_hot = F.one_hot(labels.clamp(max=CLASSES)).movedim(-1, 1).float()
        shares = F.interpolate(one_hot, GRID, mode="area")[:, :CLASSES]
        scenes = Scenes(images, labels, torch.cat([x.feats for x in seen]), shares)
        starts = {
            "relabelled": relabelled(scenes),
            "probe": probe(scenes),
            "weak probe": probe(scenes, fitted_on=1),
        }
        for start, logits in starts.items():
            for upsample in (lpprop.BilinearUpsample(), lpprop.JointBilateralUpsample()):
                methods = [lpprop.BilinearUpsample()] + [
                    lpprop.Chain(
                        lpprop.ClassDistribution(early_rejection=True),
                        lpprop.MaxVelocity(first_step=first_step),
                        upsample,
                    )
                    for first_step in ("linear", "m2n2")
                ]
                found = []
                for method in methods:
                    attends = method is not methods[0]
                    predicted = [
                        lpprop.refine(
                            z,
                            image=image,
                            attention=x.attention if attends else None,
                            method=method,
                        ).argmax(1)
                        for z, image, x in zip(logits.split(1), images.split(1), seen, strict=True)
                    ]
                    found.append(f"{mean_iou(torch.cat(predicted), labels):.1f}")
                name = type(upsample).__name__
                print(
                    f"| {folder.name} | {start} | {name} | " + " | ".join(found) + " |", flush=True
                )


if __name__ == "__main__":
    main()
