"""Reference sets: features of labelled examples, by which images are segmented without words.

RIM (Wang et al., "Image-to-image matching via foundation models: a new perspective for
open-vocabulary semantic segmentation", CVPR 2024) classifies by references in the image's own
feature space, in place of text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.label_maps import check_ignore_index
from lpprop._core.options import check_names, hint
from lpprop._core.progress import track
from lpprop.backbones.backbone import Backbone
from lpprop.backbones.prompts import parse_classes
from lpprop.inputs.matching import check_references
from lpprop.inputs.prototypes import class_means
from lpprop.io.atomic import atomic_write
from lpprop.io.files import refuse_damaged
from lpprop.models.geometry import check_sides, resize_image, seen_size
from lpprop.models.labelled_images import read_labelled, span_labels
from lpprop.models.reference_models import check_feats, check_same_model, describe_backbone

__all__ = ["References", "check_feats", "describe_backbone", "find_sets"]

_FORMAT = "lpprop references 1"


@dataclass(frozen=True, eq=False, repr=False)
class References:
    """Classes by examples: for each class a set of feature vectors, and how they were made.

    Attributes:
        names: the classes, in the order of `vectors`.
        vectors: for each class (K_c, D) vectors, on the CPU in float32; the number K_c may differ.
        made: how they were made, for JSON: the model's fingerprint under "backbone", and whatever
            else tells two sets apart.

    Raises:
        InputError: names that are not unlike, or that a list of classes would read as synonyms;
            vectors of other shapes, or that are not finite or zero in float32; another number of
            them than of names; or a `made` that is no mapping.

    >>> references = References(["cat", "sofa"], [torch.rand(3, 8), torch.rand(1, 8)])
    >>> references
    References(2 classes of 8 channels: cat 3, sofa 1)
    """

    names: list[str]
    vectors: list[Float[Tensor, "K D"]]
    made: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = check_names("names", self.names)
        for number, name in enumerate(names):
            if not name or " ".join(name.split()) != name or set(name) & set(";="):
                raise InputError.of(
                    f"names[{number}]",
                    got=repr(name),
                    expected='one name, without ";", "=" or outer blanks',
                    fix="Rename the class. Synonyms are named where an image is segmented.",
                )
        if not isinstance(self.made, Mapping):
            raise InputError.of(
                "made",
                got=type(self.made).__name__,
                expected="a mapping of what is known of them",
                fix='Pass {"how": "by hand"}, or leave it out.',
            )
        # As they will be used: what float64 holds may be 0 or infinite here.
        vectors = [
            one.detach().to("cpu", torch.float32, copy=True)
            for one in check_references("vectors", self.vectors)
        ]
        check_references("vectors", vectors)
        unlike = len({name.lower() for name in names})
        if len(names) != len(vectors) or unlike != len(names):
            raise InputError.of(
                "names",
                got=f"{len(names)} names, {unlike} of them unlike",
                expected=f"{len(vectors)} unlike ones, one for each set of vectors",
                fix="Name each class once.",
            )
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "vectors", vectors)

    def __repr__(self) -> str:
        pairs = zip(self.names, self.vectors, strict=True)
        listed = ", ".join(f"{name} {len(one)}" for name, one in pairs)
        channels = self.vectors[0].shape[1]
        return f"References({len(self.names)} classes of {channels} channels: {listed})"

    @classmethod
    def from_images(
        cls,
        backbone: Backbone,
        images: Iterable[Any],
        labels: Iterable[Any],
        classes: Sequence[str],
        *,
        ignore_index: int = 255,
        shorter_side: int | None = None,
        longer_side: int = 2048,
        progress: bool | None = None,
    ) -> References:
        """Make one reference of each class from each labelled image that shows it.

        A reference is the mean of the image's patch features at unit length, each weighted by the
        share that the class has of the patch's labelled pixels, and it has unit length itself. RIM
        makes its references of generated images, and pools within one mask per image; this is the
        same for labelled images, and one mask per class.

        Args:
            backbone: the model that gives the features; the same one must see the images to
                segment, at about the same size.
            images: each as `lpprop.refine` takes one.
            labels: for each image the class indices (H, W), in an array or tensor of its size.
                Negative ones do not count.
            classes: as a segmenter takes them, in the order of the indices.
            ignore_index: another label of pixels that do not count.
            shorter_side: of the image that the model sees, as `Segmenter` takes it.
            longer_side: likewise.
            progress: whether a bar is shown. None shows one on a terminal and in a notebook, and
                elsewhere a line per minute.

        Raises:
            InputError: a backbone without feats, images or labels that cannot be used, more of the
                ones than of the others, sides that cannot be used, or a class that no image shows.

        >>> from lpprop.backbones import EfficientNetLite0
        >>> label = torch.arange(96).repeat(64, 1) // 48
        >>> References.from_images(EfficientNetLite0(), [torch.rand(3, 64, 96)], [label],
        ...                        ["left", "right"])
        References(2 classes of 192 channels: left 1, right 1)
        """
        names = parse_classes(classes).class_names
        check_feats(backbone)
        check_ignore_index(ignore_index, len(names))
        shorter_side, longer_side = check_sides(shorter_side, longer_side)
        found: list[list[Tensor]] = [[] for _ in names]
        count = 0
        pairs = read_labelled(images, labels, len(names), ignore_index)
        for pixels, classes_of in track(pairs, progress, logged=True):
            size = seen_size((pixels.shape[-2], pixels.shape[-1]), shorter_side, longer_side)
            seen = resize_image(pixels.to(backbone.device), size)
            feats = backbone(seen).feats
            assert feats is not None
            spanned = span_labels(classes_of.to(feats.device), size, backbone.span(size))
            sums, patches = class_means(feats, spanned, len(names), ignore_index)
            for number in patches[0].nonzero().flatten().tolist():
                found[number].append(F.normalize(sums[0, number], dim=0))
            count += 1
        for name, vectors in zip(names, found, strict=True):
            if not vectors:
                raise InputError.of(
                    "labels",
                    got=f"no pixel of class {name!r} in {count} images",
                    expected="an image of every class",
                    fix="Add one that shows it, or leave the class out.",
                )
        made = {
            "backbone": describe_backbone(backbone),
            "how": "labelled images",
            "classes": list(map(str, classes)),
            "images": count,
            "shorter side": shorter_side,
            "longer side": longer_side,
        }
        return cls(names, [torch.stack(vectors) for vectors in found], made)

    def save(self, path: Path | str) -> None:
        """Write the set as a safetensors file, whole or not at all.

        Raises:
            InputError: a `made` that JSON does not hold, or a folder that does not exist.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise InputError.of(
                "path",
                got=f"{path}, whose folder does not exist",
                expected="a file in a folder that is there",
                fix="Make the folder, or change the path.",
            )
        try:
            about = json.dumps({"names": self.names, "made": dict(self.made)}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InputError.of(
                "made", got=str(error), expected="what JSON holds", fix="Use text and numbers."
            ) from error
        tensors = {str(i): one.contiguous() for i, one in enumerate(self.vectors)}
        content = save(tensors, {"format": _FORMAT, "references": about})
        with atomic_write(path) as file:
            file.write(content)

    @classmethod
    def load(cls, path: Path | str) -> References:
        """Read a file that `save` wrote.

        Raises:
            InputError: a file that is missing, damaged or of another kind.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     References(["cat"], [torch.ones(2, 4)]).save(f"{folder}/cats.safetensors")
        ...     References.load(f"{folder}/cats.safetensors")
        References(1 classes of 4 channels: cat 2)
        """
        path = Path(path)
        expected = "a file of References.save"
        with (
            refuse_damaged(path, "references", expected),
            safe_open(path, framework="pt") as file,
        ):
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise InputError.of(
                    "references",
                    got=f"{path}, another safetensors file",
                    expected=expected,
                    fix="Make the references by References.from_images, and save them.",
                )
            about = json.loads(metadata["references"])
            vectors = [file.get_tensor(str(i)) for i in range(len(about["names"]))]
            return cls(about["names"], vectors, about["made"])

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse a model whose features cannot be compared with these; see `check_same_model`.

        Raises:
            InputError: as `check_same_model` raises it.
        """
        check_same_model(self.made.get("backbone"), backbone)


def find_sets(classes: Sequence[str], names: Sequence[str]) -> list[list[int]]:
    """Return for each class the sets of references that its name or a synonym names.

    Raises:
        InputError: a class without any.

    >>> find_sets(["vehicle = car; van", "road"], ["road", "car", "van"])
    [[1, 2], [0]]
    """
    parsed = parse_classes(classes)
    sets = []
    for number, (name, group) in enumerate(zip(parsed.class_names, parsed.groups, strict=True)):
        words = [name, *(parsed.prompts[i] for i in group)]
        found = [place for place, known in enumerate(names) if known in words]
        if not found:
            raise InputError.of(
                f"classes[{number}]",
                got=repr(classes[number]),
                expected=f"one of {', '.join(names)}, which have references",
                fix=hint(name, names, "Add references of it."),
            )
        sets.append(found)
    return sets
