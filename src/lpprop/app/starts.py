"""The two ways to start: classes in words, and clicks. Each gives scores, and the same as code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.app.models import Models
from lpprop.app.picture import REGIONS, Picture
from lpprop.backbones.prompts import parse_classes
from lpprop.compose.pipeline import refine
from lpprop.compose.presets import find
from lpprop.inputs.background import add_name
from lpprop.inputs.seeds import seed_logits
from lpprop.interaction.clicks import Clicks
from lpprop.interaction.code import as_code, code
from lpprop.models.recipes import RECIPES

if TYPE_CHECKING:
    from lpprop.backbones.backbone import Backbone

__all__ = ["ByClicks", "ByWords", "Scored", "Start"]


class Scored(NamedTuple):
    """What a method made of a picture.

    Attributes:
        scores: (C, H, W) at the picture's size, larger = likelier.
        names: a name per class; "none of these" comes last where there is a background.
    """

    scores: Float[Tensor, "C H W"]
    names: list[str]


class Start(Protocol):
    """What a user asked for, before a method refines it."""

    def names(self) -> list[str]:
        """Return the names of the classes.

        Raises:
            InputError: classes that cannot be used.
        """

    def refine(
        self,
        picture: Picture,
        models: Models,
        method: str,
        options: Mapping[str, Any],
        background: float | None = None,
    ) -> Scored:
        """Return the scores that a method makes of a picture.

        Raises:
            InputError: input that cannot be used.
            ImportError: a package that the method requires is not installed.
        """

    def code(
        self,
        picture: Picture,
        models: Models,
        method: str,
        options: Mapping[str, Any],
        background: float | None = None,
    ) -> str:
        """Return the lines of Python that do the same."""


@dataclass(frozen=True)
class ByClicks:
    """Clicks on a picture, each of one of the classes.

    Args:
        clicks: the clicks, in pixels of the picture.
        classes: a name per class.
        features: the network in `Models.features` whose features carry the clicks on.

    >>> start = ByClicks(Clicks([(3, 4, 0), (20, 30, 1)]), ("cat", "around it"), "offline")
    >>> from PIL import Image
    >>> found = start.refine(Picture(Image.new("RGB", (64, 48))), Models(), "bilinear", {})
    >>> found.scores.shape, found.names
    (torch.Size([2, 48, 64]), ['cat', 'around it'])
    """

    clicks: Clicks
    classes: tuple[str, ...]
    features: str

    def names(self) -> list[str]:
        """Return the names of the classes; see `Start.names`."""
        return list(self.classes)

    def refine(
        self,
        picture: Picture,
        models: Models,
        method: str,
        options: Mapping[str, Any],
        background: float | None = None,
    ) -> Scored:
        """Return the scores that a method makes of a picture; see `Start.refine`."""
        self._check(background)
        model = models.load_features(self.features)
        seen = picture.see(model)
        span = model.span(picture.size)
        start = seed_logits(
            self.clicks.points, self.clicks.labels, span, classes=len(self.classes), grid=seen.grid
        )
        takes = find(method)(**options).takes
        given: dict[str, Any] = {"regions": picture.regions()} if "regions" in takes else {}
        if seen.attention is not None:
            given["attention"] = seen.attention
        scores = refine(
            start.to(model.device), seen.feats, picture.image, method=method, span=span,
            background=background, **given, **_suit(model, method), **options,
        )  # fmt: skip
        names = list(self.classes)
        return Scored(scores[0].cpu(), names if background is None else add_name(names))

    def code(
        self,
        picture: Picture,
        models: Models,
        method: str,
        options: Mapping[str, Any],
        background: float | None = None,
    ) -> str:
        """Return the lines of Python that do the same; see `Start.code`."""
        model = models.load_features(self.features)
        seen = picture.see(model)
        imported, made = models.describe_features(self.features)
        setup = ["from PIL import Image", imported, "", *_read(picture), f"model = {made}"]
        setup.append("seen = model(image)")
        setup.append("feats = seen.feats")
        inputs = ["feats", "image"]
        if seen.attention is not None:
            setup[-1] = "feats, attention = seen.feats, seen.attention"
            inputs.append("attention")
        written: dict[str, Any] = {**_suit(model, method), **options}
        if "regions" in find(method)(**options).takes:
            written["regions"] = REGIONS
        span = model.span(picture.size)
        if span != picture.size:
            written["span"] = span
        if background is not None:
            written["background"] = background
        return code(
            method, written, clicks=self.clicks, size=span, classes=len(self.classes),
            grid=seen.grid, names=self.classes, inputs=inputs, setup=setup,
        )  # fmt: skip

    def _check(self, background: float | None) -> None:
        if not len(self.clicks):
            raise InputError.of(
                "clicks",
                got="none",
                expected="one or more",
                fix="Choose a class, and click on what belongs to it.",
            )
        if background is not None and len(self.classes) < 2:
            raise InputError.of(
                "none of these",
                got="a threshold beside a single class",
                expected="two classes or more, of whose scores each has a share",
                fix="Add a class, or set the threshold to 0.",
            )


@dataclass(frozen=True)
class ByWords:
    """Classes in words, scored by the backbone of a recipe.

    Args:
        classes: one string per class, as `lpprop segment --classes` takes them.
        recipe: a name in `Models.recipes`.

    >>> start = ByWords(("cat; lynx", "sofa"), "offline")
    >>> from PIL import Image
    >>> start.refine(Picture(Image.new("RGB", (64, 48))), Models(), "lposs", {"k": 4}).names
    ['cat', 'sofa']
    """

    classes: tuple[str, ...]
    recipe: str

    @classmethod
    def parse(cls, text: str, recipe: str) -> ByWords:
        """Read classes from a text, a class per line; or in a single line set apart by commas.

        >>> ByWords.parse("cat; lynx, sofa", "offline").classes
        ('cat; lynx', 'sofa')
        """
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if len(lines) == 1:
            lines = [part.strip() for part in lines[0].split(",") if part.strip()]
        return cls(tuple(lines), recipe)

    def names(self) -> list[str]:
        """Return the names of the classes; see `Start.names`."""
        if len(self.classes) < 2:
            raise InputError.of(
                "classes",
                got=f"only {self.classes[0]!r}" if self.classes else "none",
                expected="two or more, one per line",
                fix="Every pixel gets one of them, so a single one would get all.",
            )
        return parse_classes(self.classes).class_names

    def refine(
        self,
        picture: Picture,
        models: Models,
        method: str,
        options: Mapping[str, Any],
        background: float | None = None,
    ) -> Scored:
        """Return the scores that a method makes of a picture; see `Start.refine`."""
        self.names()  # may refuse them
        backbone, affinity = models.load_recipe(self.recipe)
        recipe = RECIPES[self.recipe].with_method(method, **options)
        recipe = replace(recipe, background=background, regions=_proposer(method))
        segmenter = recipe.tie(backbone, affinity)
        segmenter.call_model = lambda model, *seen: picture.see(model, *seen)
        scores, names = segmenter(picture.image, self.classes)
        return Scored(scores[0].cpu(), names)

    def code(
        self,
        picture: Picture,
        models: Models,
        method: str,
        options: Mapping[str, Any],
        background: float | None = None,
    ) -> str:
        """Return the lines of Python that do the same; see `Start.code`."""
        changes = {"background": background, "regions": _proposer(method)}
        given = [f"{name}={as_code(x)}" for name, x in changes.items() if x is not None]
        called = ", ".join(
            [as_code(method), *(f"{name}={as_code(x)}" for name, x in options.items())]
        )
        lines = [
            "from PIL import Image",
            "from lpprop.models import RECIPES",
            "",
            *_read(picture),
            f"recipe = RECIPES[{as_code(self.recipe)}].with_method({called})",
            *([f"recipe = replace(recipe, {', '.join(given)})"] if given else []),
            "segmenter = recipe.build()",
            "scores, names = segmenter(",
            "    image,",
            "    [",
            *(f"        {as_code(text)}," for text in self.classes),
            "    ],",
            ")",
            "labels = scores.argmax(1)[0]",
        ]
        return "\n".join([*(["from dataclasses import replace", ""] if given else []), *lines, ""])


def _proposer(method: str) -> str | None:
    """Return the name of what proposes regions, for a method that takes them."""
    return REGIONS if "regions" in find(method)().takes else None


def _suit(model: Backbone, method: str) -> dict[str, Any]:
    """Return the settings of LPOSS's methods that suit the features of a network."""
    if not find(method).feats_from:
        return {}
    suited = {name: getattr(model, name) for name in ("feats_from", "patch_size")}
    return {name: value for name, value in suited.items() if value is not None}


def _read(picture: Picture) -> Sequence[str]:
    """Return the lines that read the picture as it is worked on."""
    height, width = picture.size
    opened = 'image = Image.open("picture.jpg").convert("RGB")'
    return [f"{opened}.resize(({width}, {height}))" if picture.scaled else opened]
