"""Files in, files out: arrays of any model, images, and results that are whole or absent.

Input files are taken for hostile: nothing in them is executed, and damaged ones are refused.
"""

from typing import TYPE_CHECKING

from lpprop._core.optional import import_later

if TYPE_CHECKING:
    from lpprop.io import arrays as arrays
    from lpprop.io import files as files
    from lpprop.io import images as images
    from lpprop.io import label_maps as label_maps
    from lpprop.io import videos as videos
else:
    __getattr__ = import_later(
        __name__, dict.fromkeys(("arrays", "files", "images", "label_maps", "videos"), "")
    )
