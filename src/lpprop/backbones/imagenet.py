"""ImageNet's 1000 classes by their WordNet names, and users' classes as groups of them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from lpprop._core.errors import InputError
from lpprop.backbones.imagenet_names import imagenet_classes
from lpprop.backbones.prompts import read_classes

__all__ = ["EVERYDAY_WORDS", "ClassGroups", "class_groups", "imagenet_classes"]

#: Everyday words for families of classes; ImageNet has their members, but not the words.
EVERYDAY_WORDS: dict[str, tuple[int, ...]] = {
    "airplane": (404, 895),
    "bear": (294, 295, 296, 297),
    "bird": (*range(7, 25), *range(80, 101), *range(127, 147)),
    "boat": (472, 554, 576, 625, 814, 914),
    "bus": (654, 779, 874),
    "butterfly": (321, 322, 323, 324, 325, 326),
    "car": (436, 468, 511, 609, 627, 656, 661, 751, 817),
    "cat": (281, 282, 283, 284, 285),
    "chair": (423, 559, 765),
    "couch": (831,),
    "dog": tuple(range(151, 269)),
    "fish": (0, 1, *range(389, 398)),
    "flag": (557,),
    "frog": (30, 31, 32),
    "lizard": tuple(range(38, 49)),
    "monkey": tuple(range(370, 383)),
    "motorcycle": (665, 670),
    "phone": (487, 528, 707),
    "snake": tuple(range(52, 69)),
    "sofa": (831,),
    "spider": tuple(range(72, 78)),
    "spoon": (618, 910),
    "table": (532,),
    "truck": (569, 717, 864, 867),
    "turtle": (33, 34, 35, 36, 37),
}


class ClassGroups(NamedTuple):
    """A user's classes in terms of ImageNet's.

    Attributes:
        groups: for each class the indices of its ImageNet classes, as `merge_classes` takes them.
    """

    class_names: list[str]
    groups: list[list[int]]


def class_groups(classes: Sequence[str]) -> ClassGroups:
    """Find the ImageNet classes that each of a user's classes stands for.

    Args:
        classes: one string per class, either synonyms separated by ";", the first of which names
            the class, or "name = synonyms". A synonym is any WordNet name of an ImageNet class, or
            an everyday word for a family of them ("cat", "dog", "bird", "car", "sofa"), in upper or
            lower case. A name that several ImageNet classes share ("crane") stands for all of them.

    Returns:
        The names and, for each, indices into `imagenet_classes()`.

    Raises:
        InputError: no class, an empty one, a synonym that ImageNet does not have (the message
            suggests some), two classes of one name, or two that share an ImageNet class.

    >>> class_groups(["cat; lynx", "seat = sofa; rocking chair"])
    ClassGroups(class_names=['cat', 'seat'], groups=[[281, 282, 283, 284, 285, 287], [831, 765]])
    >>> class_groups(["shuttle"])
    Traceback (most recent call last):
    lpprop.InputError: classes[0]: got 'shuttle', expected names of ImageNet classes.
    Close to it: space shuttle. lpprop.backbones.imagenet_classes() lists all 1000.
    """
    class_names, prompts, own_prompts = read_classes(classes)
    groups: list[list[int]] = []
    owner: dict[int, str] = {}
    for number, own in enumerate(own_prompts):
        group = list(dict.fromkeys(i for q in own for i in _find(number, prompts[q])))
        for i in group:
            if i in owner:
                raise InputError.of(
                    f"classes[{number}]",
                    got=f"{classes[number]!r} with {imagenet_classes()[i]!r}, which "
                    f"{owner[i]!r} has",
                    expected="classes that share nothing",
                    fix="Merge the two, or leave the common name to one of them.",
                )
        owner |= dict.fromkeys(group, class_names[number])
        groups.append(group)
    return ClassGroups(class_names, groups)


def _find(number: int, name: str) -> tuple[int, ...]:
    found = _index().get(name.lower()) or EVERYDAY_WORDS.get(name.lower())
    if not found:
        close = _suggest(name.lower())
        fix = f"Close to it: {', '.join(close)}. " if close else ""
        if "," in name:
            fix = f'Separate synonyms by ";": {"; ".join(map(str.strip, name.split(",")))!r}. '
        fix += "lpprop.backbones.imagenet_classes() lists all 1000."
        raise InputError.of(
            f"classes[{number}]", got=repr(name), expected="names of ImageNet classes", fix=fix
        )
    return found


@lru_cache
def _index() -> dict[str, tuple[int, ...]]:
    """Map each WordNet name and each whole line, in lower case, to the classes that have it."""
    index: dict[str, tuple[int, ...]] = {}
    for number, line in enumerate(imagenet_classes()):
        for name in dict.fromkeys([line.lower(), *line.lower().split(", ")]):
            index[name] = (*index.get(name, ()), number)
    return index


def _suggest(name: str) -> list[str]:
    """List names that have all words of this one, else names that are similar or contain it."""
    known = [text for text in (*EVERYDAY_WORDS, *_index()) if "," not in text]
    words = set(re.findall(r"\w+", name))
    close = [text for text in known if words and words <= set(re.findall(r"\w+", text))]
    if not close:
        close = difflib.get_close_matches(name, known, n=3)
        close += [text for text in known if name in text and text not in close]
    return close[:5]
