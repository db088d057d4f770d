"""Classes in words against what they must mean, and the sentences against their source."""

import hashlib

import pytest

from lpprop import InputError
from lpprop.backbones.prompts import (
    BACKGROUND_PROMPTS,
    IMAGENET_BEST,
    IMAGENET_TEMPLATES,
    PLAIN,
    check_templates,
    parse_classes,
)


@pytest.mark.parametrize(
    ("text", "name", "synonyms"),
    [
        ("cat", "cat", ["cat"]),
        ("  Tiger   CAT ;day bed", "Tiger CAT", ["Tiger CAT", "day bed"]),
        ("my pet = cat; dog", "my pet", ["cat", "dog"]),
        ("a = b = c", "a = b", ["c"]),
        ("person, standing", "person, standing", ["person, standing"]),
    ],
)
def test_a_class_by_hand(text, name, synonyms):
    assert parse_classes([text]) == ([name], synonyms, [list(range(len(synonyms)))])


def test_groups_count_through_the_prompts():
    read = parse_classes(["background = sky; bed; wall", "cat", "bed; couch"])
    assert read.class_names == ["background", "cat", "bed"]
    assert read.prompts == ["sky", "bed", "wall", "cat", "bed", "couch"]
    assert read.groups == [[0, 1, 2], [3], [4, 5]]
    assert parse_classes(("cat",)) == (["cat"], ["cat"], [[0]])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "classes: got [], expected a list of class names"),
        ("cat", "classes: got 'cat', expected a list of class names"),
        (None, "classes: got None, expected a list of class names"),
        ([""], "classes[0]: got '', expected synonyms"),
        (["cat", " ; "], "classes[1]: got ' ; ', expected synonyms"),
        (["cat;"], "classes[0]: got 'cat;'"),
        (["= cat"], "classes[0]: got '= cat'"),
        (["pet ="], "classes[0]: got 'pet ='"),
        ([3], "classes[0]: got 3"),
        (["tabby", "Tabby; cat"], "classes[1]: got 'Tabby; cat' with the name of 'tabby'"),
        (["a = cat", "dog", "A = cat"], "classes[2]: got 'A = cat' with the name of 'a'"),
    ],
)
def test_bad_classes_are_refused(classes, message):
    with pytest.raises(InputError) as refused:
        parse_classes(classes)
    assert message in str(refused.value)


def test_the_templates_are_those_of_clip():
    # Of the 80 lines in the order of the notebook that came with CLIP.
    digest = hashlib.sha256("\n".join(IMAGENET_TEMPLATES).encode()).hexdigest()
    assert digest == "4f976686fb651bb5803d4689dcd849f75efe0ef19a3c801355bc9a6f03c8a5af"
    assert len(set(IMAGENET_TEMPLATES)) == 80
    assert len(set(IMAGENET_BEST)) == 7
    assert {*IMAGENET_BEST, *PLAIN} < set(IMAGENET_TEMPLATES)
    for templates in (IMAGENET_TEMPLATES, IMAGENET_BEST, PLAIN):
        assert check_templates(templates) == templates
        assert all(one.format("cat").endswith((" cat.", " game.")) for one in templates)


@pytest.mark.parametrize("templates", [(), "a {}", None, ["a cat"], ["{} {}"], ["a {}", 3]])
def test_bad_templates_are_refused(templates):
    with pytest.raises(InputError, match=r'^templates: got .*expected sentences with one "{}"'):
        check_templates(templates)


def test_background_prompts_make_a_class():
    assert {name: len(set(words)) for name, words in BACKGROUND_PROMPTS.items()} == {
        "voc": 26,
        "context": 1,
        "coco-object": 17,
    }
    assert set(BACKGROUND_PROMPTS["coco-object"]) < set(BACKGROUND_PROMPTS["voc"])
    for words in BACKGROUND_PROMPTS.values():
        read = parse_classes([f"background = {'; '.join(words)}", "aeroplane"])
        assert read.class_names == ["background", "aeroplane"]
        assert tuple(read.prompts[:-1]) == words
