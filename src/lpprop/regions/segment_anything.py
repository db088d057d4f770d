"""The networks of the Segment Anything family behind one interface: embed an image, decode prompts.

Kirillov et al., "Segment anything", ICCV 2023; Ke et al., "Segment anything in high quality",
NeurIPS 2023; Ravi et al., "SAM 2: segment anything in images and videos", ICLR 2025; Zhou et al.,
"EdgeTAM", CVPR 2025; Carion et al., "SAM 3: segment anything with concepts", 2025.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lpprop._core.checks import all_finite, check_tensors
from lpprop._core.errors import InputError
from lpprop._core.progress import track
from lpprop._core.scans import one_call, values_are_checked
from lpprop.backbones.checkpoints import find_checkpoint
from lpprop.backbones.frozen import Frozen
from lpprop.backbones.hub import add_stored_colours, load_model
from lpprop.backbones.hub_cache import find_commit

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = ["SQUEEZING", "STRETCHING", "PointMasks", "SegmentAnything"]

#: Models that see an image with its sides in proportion, padded at the right and the bottom.
SQUEEZING = ("SamModel", "SamHQModel")

#: Models that see an image stretched to a square.
STRETCHING = ("Sam2Model", "EdgeTamModel", "Sam3TrackerModel")

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


T = TypeVar("T", bound="SegmentAnything")


class PointMasks(NamedTuple):
    """What a model sees at points of one image.

    Attributes:
        masks: three for each point: a part, an object and a group.
        scores: the predicted IoU of each mask.
    """

    masks: Bool[Tensor, "n 3 H W"]
    scores: Float[Tensor, "n 3"]


class SegmentAnything(Frozen):
    """A model that predicts masks from points, boxes and coarse masks; the proposers' base.

    Attributes:
        architectures: names of the classes of `transformers` whose models can be used.
        checkpoints: short names that `from_pretrained` knows, with their repositories on the hub.
    """

    architectures: tuple[str, ...] = SQUEEZING + STRETCHING
    checkpoints: Mapping[str, str] = {}

    def __init__(
        self,
        model: Any,
        *,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        max_bytes: int,
    ) -> None:
        names = {base.__name__ for base in type(model).__mro__}
        if not names & set(self.architectures):
            raise InputError.of(
                "model",
                got=type(model).__name__,
                expected=f"one of {', '.join(self.architectures)} of transformers",
                fix=f"Load one with {type(self).__name__}.from_pretrained.",
            )
        own = _HALF if "Sam3TrackerModel" in names else _IMAGENET
        colours = {"mean": mean, "std": std}
        given = {name: values for name, values in colours.items() if values is not None}
        super().__init__(**own | given, max_bytes=max_bytes)
        self.model: Any = model
        self._squeezes = bool(names & set(SQUEEZING))
        self._side = int(model.prompt_encoder.input_image_size)
        # Masks come, and are taken as prompts, on a grid four times as fine as the embedding.
        self._mask_side = 4 * int(model.prompt_encoder.image_embedding_size[0])
        self.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(
        cls: type[T],
        checkpoint: str | Path,
        *,
        download: bool = True,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> T:
        """Load a model and its colours by name or from a folder, as backbones are loaded.

        Args:
            checkpoint: a short name of the class's `checkpoints`, the name of a repository on the
                Hugging Face hub, or a folder that `save_pretrained` wrote.
            download: whether weights may be downloaded that are neither in a folder nor in the
                cache.
            revision: commit, tag or branch of the repository; the newest if None.
            dtype: dtype of the loaded weights; the checkpoint's own if None.
            options: keywords of the class. Mean and std come from the checkpoint, unless they are
                among them.

        Raises:
            ImportError: the extra `models` is not installed.
            InputError: a checkpoint that does not exist, is damaged or of another kind, or needs
                code of its own; a hub that cannot be reached; an option that cannot be used.
        """
        checkpoint = find_checkpoint(checkpoint, cls.checkpoints, revision)
        model = load_model(
            "transformers",
            "AutoModelForMaskGeneration",
            checkpoint,
            download=download,
            revision=revision,
            dtype=dtype,
        )
        commit = find_commit(checkpoint, revision)
        source: dict[str, Any] = {"download": download, "revision": commit or revision}
        proposer = cls(model, **add_stored_colours(options, checkpoint, **source))
        proposer.commit = commit
        return proposer

    @torch.no_grad()
    def masks_at(
        self,
        image: Float[Tensor, "1 3 H W"] | np.ndarray[Any, Any] | Image,
        points: Int[Tensor, "n 2"],
    ) -> PointMasks:
        """Segment what is at each point, each prompted by itself.

        Args:
            image: one image, as `lpprop.refine` takes it, on the module's device.
            points: row and column of each pixel, as `lpprop.prompt_points` returns them.

        Raises:
            InputError: an image or points of another shape, range or device; an output that is not
                finite.
        """
        with one_call():
            taken = self._take(image)
            check_tensors(image=(taken, "1 3 H W"), points=(points, "n 2", ("integer",)))
            size = taken.shape[-2], taken.shape[-1]
            highest = points.new_tensor(size)
            if bool(((points < 0) | (points >= highest)).any()):
                raise InputError.of(
                    "points",
                    got=f"a point outside of the image of {size[0]} x {size[1]} pixels",
                    expected="row and column of pixels",
                    fix="Pass rows before columns, counted from 0.",
                )
            self._check_memory(size)
            embedding = self._embed(taken)
            masks, scores = [], []
            parts = points.flip(1).float().split(self._at_once(size, masks=3))
            for part in track(parts, unit="batch"):
                coarse, quality = self._decode(embedding, size, part, several=True)
                fine = self._enlarge(coarse.flatten(0, 1), size) > 0
                masks.append(fine.unflatten(0, (len(part), -1)))
                scores.append(quality)
        return PointMasks(torch.cat(masks), torch.cat(scores))

    def _resized(self, size: tuple[int, int], side: int) -> tuple[int, int]:
        """Return the size to which an image of this size is brought within a square."""
        if not self._squeezes:
            return side, side
        height, width = (max(1, int(x * side / max(size) + 0.5)) for x in size)
        return height, width

    def _scale(self, xy: Float[Tensor, "P 2"], size: tuple[int, int]) -> Float[Tensor, "P 2"]:
        """Bring x and y in pixels of an image to those of the image as the model sees it."""
        height, width = self._resized(size, self._side)
        return xy * xy.new_tensor([width / size[1], height / size[0]])

    def _embed(self, image: Float[Tensor, "1 3 H W"]) -> dict[str, Any]:
        """Return the embedding of an image, as keywords of the model."""
        size = self._resized((image.shape[-2], image.shape[-1]), self._side)
        pixels = self._normalise(F.interpolate(image, size, mode="bilinear", antialias=True))
        pixels = F.pad(pixels, (0, self._side - size[1], 0, self._side - size[0]))
        found = self.model.get_image_embeddings(pixels.to(self.dtype))
        if isinstance(found, tuple):  # SAM-HQ
            return {"image_embeddings": found[0], "intermediate_embeddings": found[1]}
        return {"image_embeddings": found}

    def _decode(
        self,
        embedding: Mapping[str, Any],
        size: tuple[int, int],
        points: Float[Tensor, "P 2"],
        *,
        boxes: Float[Tensor, "P 4"] | None = None,
        masks: Float[Tensor, "P H W"] | None = None,
        several: bool,
    ) -> tuple[Float[Tensor, "P K g g"], Float[Tensor, "P K"]]:
        """Return logits of masks and their predicted IoU, in float32, for P prompts of one image.

        Args:
            embedding: what `_embed` returned.
            size: (H, W) of the image.
            points: x and y in pixels of the image, each on an object.
            boxes: left, top, right and bottom pixel, the last two within the box.
            masks: logits of coarse masks.
            several: whether three masks are decoded per prompt, or one.

        Raises:
            InputError: NaN or infinity in the output.
        """
        count = len(points)
        # Each prompt is an item of the model's batch, since it takes one coarse mask per item.
        prompts = {"input_points": self._scale(points, size)[:, None, None]}
        if boxes is not None:
            corners = self._scale(boxes.reshape(-1, 2), size)
            prompts["input_boxes"] = corners.reshape(-1, 1, 4)
        if masks is not None:
            height, width = self._resized(size, self._mask_side)
            coarse = F.interpolate(masks[:, None], (height, width), mode="bilinear")
            missing = (0, self._mask_side - width, 0, self._mask_side - height)
            prompts["input_masks"] = F.pad(coarse, missing).to(self.dtype)
        expanded = dict(embedding)
        seen = embedding["image_embeddings"]
        expanded["image_embeddings"] = (
            seen.expand(count, -1, -1, -1)
            if isinstance(seen, Tensor)
            else [level.expand(count, -1, -1, -1) for level in seen]
        )
        output = self.model(**expanded, **prompts, multimask_output=several)
        logits, quality = output.pred_masks[:, 0].float(), output.iou_scores[:, 0].float()
        if values_are_checked() and not (all_finite(logits) and all_finite(quality)):
            raise InputError.of(
                "model",
                got=f"NaN or infinity in the masks of {type(self.model).__name__} in {self.dtype}",
                expected="finite values",
                fix="Load it with dtype=torch.float32; if it is, its weights are damaged.",
            )
        return logits, quality

    def _enlarge(
        self, logits: Float[Tensor, "M g g"], size: tuple[int, int]
    ) -> Float[Tensor, "M H W"]:
        """Bring logits of masks to the pixels of an image, without the padding."""
        x = logits[:, None]
        if self._squeezes:
            height, width = self._resized(size, self._side)
            whole = F.interpolate(x, (self._side, self._side), mode="bilinear")
            x = whole[..., :height, :width]
        return F.interpolate(x, size, mode="bilinear")[:, 0]

    def _at_once(self, size: tuple[int, int], masks: int) -> int:
        """Return how many prompts with so many masks each the bound on the activations allows."""
        return max(1, self.max_bytes // self._prompt_bytes(size, masks))

    def _prompt_bytes(self, size: tuple[int, int], masks: int) -> int:
        """Estimate the bytes that decoding takes per prompt, and bringing its masks to pixels."""
        tokens = (self._mask_side // 4) ** 2
        channels = int(self.model.prompt_encoder.hidden_size)
        # Measured: the image's tokens as the decoder attends to them, and enlarged four times.
        decoding = 8 * tokens * channels * self.dtype.itemsize
        pixels = size[0] * size[1]
        return decoding + 4 * masks * (16 * tokens + self._squeezes * self._side**2 + 3 * pixels)

    def _item_bytes(self, size: tuple[int, int]) -> int:
        """Estimate the bytes of embedding one image, or of decoding one prompt if that is more."""
        # Measured: the widest layers of SAM's blocks, or the finest level of SAM 2's neck.
        encoder = self.model.vision_encoder.config
        if self._squeezes:
            stride, width = encoder.patch_size, 4 * encoder.mlp_dim
        else:
            stride, width = 4, 9 * encoder.fpn_hidden_size
        tokens = (self._side // stride) ** 2
        needed = int(tokens * width)
        if getattr(encoder, "use_rel_pos", False):
            # The bias of a global block's attention, its softmax, and what they are made of.
            needed += 3 * int(encoder.num_attention_heads) * tokens**2
        return max(needed * self.dtype.itemsize, self._prompt_bytes(size, 3))
