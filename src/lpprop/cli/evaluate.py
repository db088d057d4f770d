"""`lpprop eval`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lpprop.cli.arguments import add_command, add_shared, name_methods
from lpprop.cli.common import check_folder, find_device, make_folder, say
from lpprop.cli.engines import add_engine, check_engine
from lpprop.cli.eval_methods import add_source, plan
from lpprop.cli.labelled import add_dataset, find_dataset, interruptible
from lpprop.cli.messages import visible

if TYPE_CHECKING:
    from lpprop.evaluation.runner import Pool

__all__ = ["add_eval"]

_HELP = """\
Measure methods on labelled images: mIoU, Boundary IoU, accuracy and time, by method and class.

The data set is one of voc21, voc20, context60, context59, coco-object, coco-stuff, cityscapes,
ade20k, camvid, loveda, isaid, uavid and openearthmap, in the folders of its official download; or a
folder of images of your own, one of label maps (PNG, one class index per pixel from 0, 255 where a
pixel does not count), and a text file with one class per line, as lpprop segment takes them. Of
images, the pixels count as they are stored, to which the labels belong: an EXIF orientation is not
applied, and you are told of it.

The methods refine the scores of a recipe, or your own. The recipes are those of lpprop segment. All
methods see the same models, which are loaded once and run once per image; "bilinear" is their
scores without refinement. With --logits in place of --recipe, no models are needed: DIR has an
array per image, named after it (.npy, .npz, .safetensors, .pt or .pth), and so have the folders of
what the methods take beside the scores. That every image has its arrays is checked first. Regions
may also be proposed by name, beside a recipe too; they are kept in DIR/regions.

The DIR of --out receives results.md and results.json, with the configuration, and the counts of
each image. With --save it also receives labels/METHOD/IMAGE.png (class indices with a palette) and
overlays/METHOD/IMAGE.png (over the image, with a legend). A run that was ended is continued by the
same command, and so is one with a larger --limit or with further methods. Images whose file or
labels have changed are measured again, and so are those that lack a picture of --save. A folder of
another configuration is refused, or of arrays that have changed since."""

_EXAMPLE = """\
example:
  lpprop eval --dataset voc20 --root VOC2012 --recipe clip-dino \\
    --method bilinear lposs lposs+ --out runs/voc20
  lpprop eval --images photos --labels labels --classes classes.txt --recipe offline \\
    --method lposs+ --out runs/photos
  lpprop eval --images photos --labels labels --classes classes.txt --logits logits \\
    --feats feats --method bilinear lposs --save overlays --out runs/mine"""


def add_eval(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    command = add_command(
        commands, "eval", _eval,
        short="measure methods on labelled images", description=_HELP, example=_EXAMPLE,
    )  # fmt: skip
    add_dataset(command)
    add_source(command)
    command.add_argument(
        "--method",
        nargs="+",
        metavar="METHOD",
        help=f"one or more of {name_methods()} (default: the recipe's, or those that the arrays "
        "allow)",
    )
    add_shared(command, "--option")
    add_shared(
        command, "--background", "; a miss of its true class, or the data set's own background"
    )
    add_shared(command, "--side", " (default: the recipe's)")
    add_shared(command, "--out", " (default: runs/ and the data set's name)")
    command.add_argument(
        "--save",
        nargs="+",
        default=[],
        metavar="WHAT",
        help="what to draw of each image: labels, overlays, or both as labels,overlays",
    )
    command.add_argument("--limit", type=int, metavar="N", help="the first N images (default: all)")
    command.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="that share the images, each with models of its own (default: 1)",
    )
    add_engine(command)


def _eval(arguments: argparse.Namespace) -> int:
    # Imported here, since the other commands need none of it.
    from lpprop._core.options import check_integer
    from lpprop.evaluation import EvaluationError, evaluate
    from lpprop.evaluation.pictures import check_kinds

    for name in ("limit", "processes", "side"):
        if (number := getattr(arguments, name)) is not None:
            check_integer(f"--{name}", number)
    pool = _pool(arguments) if check_engine(arguments) else None
    save = check_kinds([word for part in arguments.save for word in part.split(",")])
    make = plan(arguments)
    device = find_device(arguments.device)
    dataset = find_dataset(arguments)
    out = arguments.out or Path("runs") / dataset.name
    check_folder(out)
    predictors = make(dataset, out, device)
    make_folder(out)
    try:
        with interruptible():
            report = evaluate(
                dataset, predictors, out,
                limit=arguments.limit, processes=arguments.processes, on_error="skip",
                save=save, pool=pool,
            )  # fmt: skip
    except EvaluationError as error:
        say(f"error: {error}; the same command continues")
        return 1
    except KeyboardInterrupt as interrupt:
        say("interrupted: the same command continues")
        return int(interrupt.args[0]) if interrupt.args else 130
    print(report.table())
    print(report.ignored_line())
    for line in report.rejected_lines():
        print(line)
    print(f"classes and configuration: {visible(str(out / 'results.md'))} and results.json")
    if save:
        print(f"{' and '.join(save)}: {', '.join(visible(str(out / kind)) for kind in save)}")
    failed = sum(len(report[name].failures) for name in report)
    if failed:
        say(f"error: {failed} failed and are left out; the same command tries them again")
    return 1 if failed else 0


def _pool(arguments: argparse.Namespace) -> Pool:
    """Return what shares the images on a cluster."""
    from lpprop.cluster import RayPool

    return RayPool(
        arguments.workers, address=arguments.address,
        gpus_per_worker=arguments.gpus_per_worker or 0.0,
    )  # fmt: skip
