"""Many images on many machines: jobs of shards that Ray maps, and that any fault only delays."""

from typing import TYPE_CHECKING

from lpprop._core.optional import import_later

if TYPE_CHECKING:
    from lpprop.cluster.engine import map_images as map_images
    from lpprop.cluster.evaluating import RayPool as RayPool
    from lpprop.cluster.reports import Summary as Summary
else:
    __getattr__ = import_later(
        __name__, {"RayPool": "evaluating", "Summary": "reports", "map_images": "engine"}
    )

__all__ = ["RayPool", "Summary", "map_images"]
