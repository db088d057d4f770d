"""The benchmarks of open-vocabulary segmentation: downloaded folders in, samples out."""

from __future__ import annotations

from pathlib import Path

from lpprop._core.options import check_choice
from lpprop.evaluation.datasets.ade20k import ADE20K
from lpprop.evaluation.datasets.benchmark import Benchmark
from lpprop.evaluation.datasets.camvid import CAMVID
from lpprop.evaluation.datasets.cityscapes import CITYSCAPES
from lpprop.evaluation.datasets.coco import COCO_OBJECT, COCO_STUFF
from lpprop.evaluation.datasets.context import CONTEXT59, CONTEXT60
from lpprop.evaluation.datasets.dataset import Dataset, Files, Sample
from lpprop.evaluation.datasets.folders import dataset_from_folders
from lpprop.evaluation.datasets.isaid import ISAID
from lpprop.evaluation.datasets.loveda import LOVEDA
from lpprop.evaluation.datasets.openearthmap import OPENEARTHMAP
from lpprop.evaluation.datasets.uavid import UAVID
from lpprop.evaluation.datasets.voc import VOC20, VOC21

__all__ = [
    "DATASETS",
    "Benchmark",
    "Dataset",
    "Files",
    "Sample",
    "dataset_from_folders",
    "load_dataset",
]

#: The protocols by name: the eight of the literature, CamVid, and four from the air.
DATASETS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        VOC21,
        VOC20,
        CONTEXT60,
        CONTEXT59,
        COCO_OBJECT,
        COCO_STUFF,
        CITYSCAPES,
        ADE20K,
        CAMVID,
        LOVEDA,
        ISAID,
        UAVID,
        OPENEARTHMAP,
    )
}


def load_dataset(name: str, root: Path | str, *, split: str | None = None) -> Dataset:
    """Find the samples of a benchmark in a folder, laid out as it is downloaded.

    Only names are read here. An image and its labels are read on the first access to them.

    Args:
        name: one of `DATASETS`.
        root: the data set's folder, or a folder that contains it under its usual name.
        split: the split's official name; the split that the literature evaluates if None.

    Returns:
        The samples, in the order of the split's list, or sorted by name where there is no list.

    Raises:
        InputError: an unknown name, a folder of another layout, images without labels, or no
            images.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for folder, mode in (("images", "RGB"), ("labels", "L")):
    ...         Path(root, folder).mkdir()
    ...         Image.new(mode, (4, 3), 0).save(Path(root, folder, "street.png"))
    ...     dataset = load_dataset("camvid", root)
    ...     sample = dataset[0]
    ...     dataset, sample.name, sample.image.size, dataset.class_names[sample.gt[0, 0]]
    (Dataset('camvid', 1 samples, 11 classes), 'street', (4, 3), 'sky')
    """
    check_choice("dataset", name, tuple(DATASETS))
    return DATASETS[name].load(root, split)
