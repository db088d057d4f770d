"""Classes in words against what they must mean, and the sentences against their source."""

import hashlib

import numpy as np
import pytest
import torch

from lpprop import InputError, InputWarning
from lpprop.backbones import class_groups, imagenet_classes
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


# As SCLIP and its kin write them, one class per line.
SCLIP = [
    "sky, wall, tree, wood, grass, road",
    "person, person in shirt, person in jeans",
    "television monitor, tv monitor, monitor",
]


@pytest.mark.parametrize(
    ("classes", "fix"),
    [
        (["sky, wall, tree"], "'sky; wall; tree'"),
        (["sky,wall,tree", "cat"], "'sky; wall; tree'"),
        (["cat", "background = sky, wall, tree"], "'sky; wall; tree'"),
        (["cat", "person, person in shirt"], "'person; person in shirt'"),
        (SCLIP, "'sky; wall; tree; wood; grass; road'"),
        (SCLIP[1:], "'person; person in shirt; person in jeans'"),
    ],
)
def test_commas_between_synonyms_are_told_once(classes, fix):
    with pytest.warns(InputWarning) as told:
        read = parse_classes(classes)
    assert len(told) == 1
    assert 'Separate synonyms by ";": ' + fix in str(told[0].message)
    assert len(read.prompts) == len(classes)


@pytest.mark.parametrize(
    "classes",
    [
        ["person, standing", "person, sitting"],
        ["bread, white", "milk"],
        list(imagenet_classes()[:134]),  # two later classes share a name
        ["sky; wall, brick or stone, painted; tree"],
        ["black, white or red flag; banner", "salt, pepper, oil"],
    ],
)
def test_names_with_commas_are_names(classes):
    assert len(parse_classes(classes).class_names) == len(classes)


def test_a_model_tells_of_commas_once_per_call():
    pytest.importorskip("transformers")
    from lpprop.backbones import MaskCLIP
    from lpprop.models.segmenter import Segmenter
    from test_clip import tiny_model, tiny_tokenizer

    tokenizer = tiny_tokenizer()
    backbone = MaskCLIP(tiny_model(tokenizer), tokenizer, templates=PLAIN)
    segmenter = Segmenter(backbone, method="bilinear")
    image, classes = torch.rand(1, 3, 32, 32), ["cat, cat", "dog"]
    calls = [backbone.class_names, backbone.groups, backbone.text_embeddings]
    calls += [lambda classes: segmenter(image, classes), lambda classes: backbone(image, classes)]
    for call in calls:
        with pytest.warns(InputWarning) as told:
            call(classes)
        assert len(told) == 1


def test_commas_in_names_of_imagenet():
    assert class_groups(["studio couch, day bed", "tabby, tabby cat"]).groups == [[831], [281]]
    with pytest.raises(InputError, match=r"Separate synonyms by \";\": 'tabby; lynx; sofa'"):
        class_groups(["tabby, lynx, sofa"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"cat"}, "classes: got {'cat'}, expected a list of class names, whose order numbers"),
        (frozenset(["cat"]), "classes: got frozenset({'cat'}), expected a list"),
        ({"cat": 1}, "classes: got {'cat': 1}, expected a list"),
        (iter(["cat"]), "expected a list of class names"),
        (b"cat", "classes: got b'cat', expected a list"),
        (np.array(["cat", "dog"]), "expected a list of class names"),
        ([b"cat"], "classes[0]: got b'cat'"),
        (["cat", None], "classes[1]: got None"),
        (["cat", ["dog"]], "classes[1]: got ['dog']"),
        (["cat", "cat"], "classes[1]: got 'cat' with the name of 'cat'"),
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
