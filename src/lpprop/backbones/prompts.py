"""Classes in words: their names and synonyms, and the templates of sentences for them."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from lpprop._core.errors import InputError, warn
from lpprop.backbones.imagenet_names import imagenet_classes

__all__ = [
    "BACKGROUND_PROMPTS",
    "IMAGENET_BEST",
    "IMAGENET_TEMPLATES",
    "PLAIN",
    "ClassPrompts",
    "check_templates",
    "parse_classes",
    "read_classes",
]


class ClassPrompts(NamedTuple):
    """A user's classes as prompts.

    Attributes:
        prompts: the synonyms of all classes, class by class.
        groups: for each class the indices of its prompts, as `merge_classes` takes them.
    """

    class_names: list[str]
    prompts: list[str]
    groups: list[list[int]]


def _parse_class(number: int, text: object) -> tuple[str, list[str]]:
    """Split "name = synonym; synonym" into its parts; without "name =", the first synonym names it.

    Runs of blanks count as one. The number is the class's position in the list, for the message.
    """
    name, equals, words = text.rpartition("=") if isinstance(text, str) else ("", "", "")
    synonyms = [" ".join(word.split()) for word in words.split(";")]
    name = " ".join(name.split()) if equals else synonyms[0]
    if not name or not all(synonyms):
        raise InputError.of(
            f"classes[{number}]",
            got=repr(text),
            expected='synonyms separated by ";", with or without "name ="',
            fix='Write it like "cat; tiger cat" or "pet = cat; dog".',
        )
    return name, synonyms


def parse_classes(classes: Sequence[str]) -> ClassPrompts:
    """Read a list of classes, each either its synonyms or "name = synonyms".

    A comma is part of a name. Where commas look like those of other projects' lists, which separate
    synonyms, an `InputWarning` says so: a name of three or more parts, or of two that share a word,
    other than ImageNet's own names.

    Two classes may share a synonym: COCO-Object has the class "bed" beside the background prompt
    "bed". Both then score the same there, and the first wins the argmax.

    Args:
        classes: one string per class, synonyms separated by ";".

    Returns:
        The names, the prompts, and the prompts of each class.

    Raises:
        InputError: no list, no class, one that is empty or no string, or two of one name, in upper
            or lower case.

    >>> parse_classes(["background = sky; wall", "cat"])
    ClassPrompts(class_names=['background', 'cat'], prompts=['sky', 'wall', 'cat'],
                 groups=[[0, 1], [2]])
    """
    read = read_classes(classes)
    doubtful = [prompt for prompt in read.prompts if _has_synonyms(prompt)]
    if doubtful and not any(";" in text for text in classes):
        prompt = doubtful[0]
        warn(
            "commas in classes",
            f"classes: got {prompt!r}, one name with commas in it, read as a whole. "
            f'Separate synonyms by ";": {"; ".join(map(str.strip, prompt.split(",")))!r}.',
        )
    return read


def _has_synonyms(prompt: str) -> bool:
    """Tell whether the commas in a prompt look as if they separated synonyms."""
    first, *others = [set(part.split()) for part in prompt.lower().split(",")]
    alike = len(others) > 1 or (len(others) == 1 and bool(first & others[0]))
    return alike and prompt.lower() not in _imagenet_names()


@lru_cache
def _imagenet_names() -> frozenset[str]:
    return frozenset(map(str.lower, imagenet_classes()))


def read_classes(classes: Sequence[str]) -> ClassPrompts:
    """Read classes as `parse_classes` does, without its warning.

    >>> read_classes(["pet = cat; dog"]).groups
    [[0, 1]]
    """
    if isinstance(classes, (str, bytes)) or not isinstance(classes, Sequence) or not classes:
        raise InputError.of(
            "classes",
            got=reprlib.repr(classes),
            expected="a list of class names, whose order numbers the classes",
            fix='Pass one string per class, such as ["cat; tiger cat", "sofa"].',
        )
    read = ClassPrompts([], [], [])
    for number, text in enumerate(classes):
        name, synonyms = _parse_class(number, text)
        known = [other for other in read.class_names if other.lower() == name.lower()]
        if known:
            raise InputError.of(
                f"classes[{number}]",
                got=f"{text!r} with the name of {known[0]!r}",
                expected="names that differ",
                fix='Merge the two, or write "another name = synonyms".',
            )
        first = len(read.prompts)
        read.class_names.append(name)
        read.prompts.extend(synonyms)
        read.groups.append(list(range(first, first + len(synonyms))))
    return read


def check_templates(templates: Sequence[str], argument: str = "templates") -> tuple[str, ...]:
    """Refuse anything but a list of sentences that each have one "{}"; errors name the argument.

    >>> check_templates(["a photo of a {}.", "a sofa."])
    Traceback (most recent call last):
    lpprop.InputError: templates: got 'a sofa.', expected sentences with one "{}".
    Write them like "a photo of a {}.".
    """
    listed = isinstance(templates, Sequence) and not isinstance(templates, str) and templates
    for template in templates if listed else [templates]:
        if not listed or not isinstance(template, str) or template.count("{}") != 1:
            raise InputError.of(
                argument,
                got=repr(template),
                expected='sentences with one "{}"',
                fix='Write them like "a photo of a {}.".',
            )
    return tuple(templates)


#: The words for "background" in the open-vocabulary benchmarks that have such a class: everyday
#: stuff that their other classes do not name. LPOSS (Stojnić et al., CVPR 2025) scores VOC21 and
#: COCO-Object with these words, as ProxyCLIP (Lan et al., ECCV 2024) does; SCLIP (Wang et al.,
#: ECCV 2024) uses the words of VOC21 for COCO-Object too. For Context60 it is the word itself.
#:
#: >>> f"background = {'; '.join(BACKGROUND_PROMPTS['voc'])}"
BACKGROUND_PROMPTS: dict[str, tuple[str, ...]] = {
    "voc": (
        "sky", "wall", "tree", "wood", "grass", "road", "sea", "river", "mountain", "sands",
        "desk", "bed", "building", "cloud", "lamp", "door", "window", "wardrobe", "ceiling",
        "shelf", "curtain", "stair", "floor", "hill", "rail", "fence",
    ),
    "context": ("background",),
    "coco-object": (
        "sky", "wall", "tree", "wood", "grass", "road", "sea", "river", "mountain", "sands",
        "desk", "bed", "building", "cloud", "floor", "hill", "rail",
    ),
}  # fmt: skip

#: One sentence, for a quick look.
PLAIN = ("a photo of a {}.",)

#: The seven that a greedy selection on ImageNet kept of the 80 (Radford et al., in the notebook
#: "Prompt Engineering for ImageNet" that came with CLIP).
IMAGENET_BEST = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)

#: The 80 sentences of Radford et al., "Learning Transferable Visual Models From Natural Language
#: Supervision", ICML 2021, letter for letter ("itap" is "I took a picture").
IMAGENET_TEMPLATES = (
    "a bad photo of a {}.", "a photo of many {}.", "a sculpture of a {}.",
    "a photo of the hard to see {}.", "a low resolution photo of the {}.", "a rendering of a {}.",
    "graffiti of a {}.", "a bad photo of the {}.", "a cropped photo of the {}.",
    "a tattoo of a {}.", "the embroidered {}.", "a photo of a hard to see {}.",
    "a bright photo of a {}.", "a photo of a clean {}.", "a photo of a dirty {}.",
    "a dark photo of the {}.", "a drawing of a {}.", "a photo of my {}.", "the plastic {}.",
    "a photo of the cool {}.", "a close-up photo of a {}.", "a black and white photo of the {}.",
    "a painting of the {}.", "a painting of a {}.", "a pixelated photo of the {}.",
    "a sculpture of the {}.", "a bright photo of the {}.", "a cropped photo of a {}.",
    "a plastic {}.", "a photo of the dirty {}.", "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.", "a photo of the {}.", "a good photo of the {}.",
    "a rendering of the {}.", "a {} in a video game.", "a photo of one {}.", "a doodle of a {}.",
    "a close-up photo of the {}.", "a photo of a {}.", "the origami {}.",
    "the {} in a video game.", "a sketch of a {}.", "a doodle of the {}.", "a origami {}.",
    "a low resolution photo of a {}.", "the toy {}.", "a rendition of the {}.",
    "a photo of the clean {}.", "a photo of a large {}.", "a rendition of a {}.",
    "a photo of a nice {}.", "a photo of a weird {}.", "a blurry photo of a {}.", "a cartoon {}.",
    "art of a {}.", "a sketch of the {}.", "a embroidered {}.", "a pixelated photo of a {}.",
    "itap of the {}.", "a jpeg corrupted photo of the {}.", "a good photo of a {}.",
    "a plushie {}.", "a photo of the nice {}.", "a photo of the small {}.",
    "a photo of the weird {}.", "the cartoon {}.", "art of the {}.", "a drawing of the {}.",
    "a photo of the large {}.", "a black and white photo of a {}.", "the plushie {}.",
    "a dark photo of a {}.", "itap of a {}.", "graffiti of the {}.", "a toy {}.",
    "itap of my {}.", "a photo of a cool {}.", "a photo of a small {}.", "a tattoo of the {}.",
)  # fmt: skip
