"""Many images: objects that are configured once, and map the batches of any engine.

A plain loop, `datasets.map`, the workers of a torch DataLoader, WebDataset and Ray Data call the
same object. It pickles to a few bytes, loads its models where it is called, and gives a column of
errors in place of a lost batch.
"""

from typing import TYPE_CHECKING

from lpprop._core.optional import import_later

if TYPE_CHECKING:
    from lpprop.batch.refining import Refine as Refine
    from lpprop.batch.segmenting import Segment as Segment
else:
    __getattr__ = import_later(__name__, {"Refine": "refining", "Segment": "segmenting"})

__all__ = ["Refine", "Segment"]
