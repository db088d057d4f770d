"""Colours for classes: a palette that colour-blind eyes tell apart, and those of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.label_maps import NONE_OF_THESE
from lpprop._core.options import check_choice, check_integer

if TYPE_CHECKING:
    import numpy.typing as npt

    Palette = str | npt.NDArray[np.uint8]

__all__ = ["PALETTES", "colours", "named_colours"]

# No class looks like it, in any of the palettes; tests/test_palettes.py measures how far they are.
_NONE = np.array([[184, 184, 184]], dtype=np.uint8)

_MOST = 2**24  # there are no more colours

#: Names that `colours` takes.
PALETTES = (
    "default", "voc", "ade20k", "cityscapes", "camvid", "loveda", "isaid", "uavid", "openearthmap"
)  # fmt: skip

# The first eight are Okabe and Ito's, ordered so that the first few differ in lightness too. Each
# further one is the RGB colour of a grid whose nearest colour so far is farthest away in Lab, in
# the worst of normal, protan and deutan vision. tests/test_palettes.py derives this table.
_DEFAULT = (
    "0072b2e69f00009e73cc79a7f0e442d55e0056b4e90000001010ff101092e9ffa87d26103b10517d67ff265151"
    "51be6792d4a8a8d4e97d92ffa8e967103bd43b51be51517d51673bffffd426267da83b103b26261010263b7d7d"
    "7d7d3bffff263b675192be51bed492d4d4d4263b51ff7d3b3b3b7d3b2610ffff927dbea89226ff3b92d43ba867"
    "e9e9d41010d4107dd4d4ff677dd4ffbe26a892e97d6792107da8be2651d47da8ffe97d927d10a8267de9513b26"
    "e9be3b3b5167e9e9ff3b3b677d6792e9675151519292bebe3b103b5167103b927d67263b1010a810107d6792be"
    "10106767be7d1010bea86751e9e9a826676767a892e9ff513b263b102667d4e9be51513b92bed4513b9210a851"
    "92a8d4675126927d92107d67103bbeffffbe3b2692beff7da8e9513b1010ff3b3bffffe9e9a892e9e9e9e926d4"
    "3b1026bed4103b677dbe67a8e9e9926792e9a851be67d4677dd4be92d451a851261051e9ff927d107d2651a8e9"
    "a810a810103b927d6792bee9d492105126e9e9d4ffe9103bffe9263b26517d51e97d107dbe3b922626be677dff"
    "51beff10be3b7de9a81026a87d7dbed4be677d516710d492101051d4a8a892677d3b51ff67d4d467ffa851e9be"
    "bea86767ffd49251a8a8927d67ffe9a8d47d3b3b3b10ffbe5126ff9267677d1026a89267a892d4a81051a8263b"
    "51e9d47d51be3b10e967ff92a8267d92d43b3ba8a8a826922626d410a83ba8a83be967269226e97d51d4a851e9"
    "92e9e9d426ff7d67519226bebe7d3b672667a87d103b6792ffd4519267d492ff10a892511010107de9ff672610"
    "be9292bebe26be7dff923b26d492d4a810109226d4e9d47dbea8ffd492bee93bbea8a8519267107d6726be92a8"
    "10d47d9210a8ffff7d677d51267dbebeffbe7d3b10be3b10e910517dffff7dff677d10927d7da8bed467263b26"
    "26e992269267e9677dffe9517d7de97d3b5192263b67923bffd410a8beff7dff5151be2626a87de9a8e9e9e967"
    "be6792d4a8513b7d3b679251a8be3b26bebe512610d467d4a8e9103b2667269292e9be51ff67e951d4e9672651"
    "ff92a8"
)

# The colours that the data sets publish for their classes, in their order: RGB in hexadecimal.
_ADE20K = (
    "787878b4787806e6e650323204c8037878508c8c8ccc05ffe6e6e604fa07e005ffebff0796053d78784608ff33"
    "ff06528fff8cccff04ff3307cc46030066c83de6faff06330b66ffff0747ff09e00907e6dcdcdcff095c7009ff"
    "08ffd607ffe0ffb8060aff47ff290a07ffffe0ff086608ffff3d06ffc207ff7a0800ff14ff0829ff05990633ff"
    "eb0cffa0961400a3ff8c8c8cfa0a0f14ff001fff00ff1f00ffe00099ff000000ffff470000ebff00adff1f00ff"
    "0bc8c8ff520000fff5003dff00ff7000ff85ff0000ffa300ff6600c2ff00008fff33ff000052ff00ff2900ffad"
    "0a00ffadff0000ff99ff5c00ff00ffff00f5ff0066ffad00ff0014ffb8b8001fff00ff3d0047ffff00cc00ffc2"
    "00ff52000aff0070ff3300ff00c2ff007aff00ffa3ff990000ff0aff70008fff005200ffa3ff00ffeb0008b8aa"
    "8500ff00ff5cb800ffff001f00b8ff00d6ffff00705cff0000e0ff70e0ff46b8a0a300ff9900ff47ff00ff00a3"
    "ffcc00ff008f00ffeb85ff00ff00ebf500ffff007afff5000abed4d6ff0000ccff1400ffffff000099ff0029ff"
    "00ffcc2900ff29ff00ad00ff00f5ff4700ff7a00ff00ffb8005cffb8ff000085ffffd60019c2c266ff005c00ff"
)
_CITYSCAPES = (
    "804080f423e846464666669cbe9999999999faaa1edcdc006b8e2398fb98"
    "4682b4dc143cff000000008e000046003c640050640000e6770b20"
)
_LOVEDA = "ffffffff0000ffff000000ff9f81b700ff00ffc380"
_ISAID = (
    "00000000003f003f3f003f00003f7f003fbf003fff007f3f"
    "007f7f00007f0000bf0000ff00bf7f007fbf007fff00649b"
)
_UAVID = "000000800000804080c000c0008000808000404000400080"
_OPENEARTHMAP = "80000000ff24949494ffffff2261260045ff4bb549de1f07"
_CAMVID = "808080800000c0c0808040800000c0808000c080804040804000804040000080c0"


def colours(palette: Palette, classes: int, *, background: bool = False) -> npt.NDArray[np.uint8]:
    """Return a colour for each class, from a palette by name or from your own colours.

    "default" keeps classes as far apart as possible, for colour-blind eyes too; its colours repeat
    after 256 classes. "voc" is the colour map of PASCAL VOC, which other data sets follow; its
    first colour is the background's black. "ade20k" has 150 colours (road and skyscraper share
    one), "cityscapes" has those of the 19 evaluated classes, and "camvid" 11 from sky to bicyclist;
    "loveda", "isaid", "uavid" and "openearthmap" have those of their 7, 16, 8 and 8 classes.

    Args:
        palette: a name in `PALETTES`, or RGB colours (n, 3) of uint8, n >= classes.
        classes: number of colours, from 1 to 2**24.
        background: whether to add the colour of "none of these", a grey that no class of these
            palettes has; it comes last.

    Returns:
        RGB, shape (classes, 3), or (classes + 1, 3) with the background.

    Raises:
        InputError: an unknown name, an array of another form, or fewer colours than classes.

    >>> colours("voc", 3)
    array([[  0,   0,   0],
           [128,   0,   0],
           [  0, 128,   0]], dtype=uint8)
    """
    classes = check_integer("classes", classes, high=_MOST)
    known = _named(palette, classes) if isinstance(palette, str) else _as_array(palette)
    if known is None or known.dtype != np.uint8 or known.ndim != 2 or known.shape[1] != 3:
        raise InputError.of(
            "palette",
            got=type(palette).__name__
            if known is None
            else f"shape {known.shape} of {known.dtype}",
            expected="RGB colours (n, 3) of uint8",
            fix=f"Pass such an array, or one of {', '.join(map(repr, PALETTES))}.",
        )
    if classes > len(known):
        name = repr(palette) if isinstance(palette, str) else "a palette"
        raise InputError.of(
            "palette",
            got=f"{name} with {len(known)} colours",
            expected=f"{classes}, one per class",
            fix="Use 'default'.",
        )
    return np.concatenate([known[:classes], _NONE]) if background else known[:classes]


def named_colours(palette: Palette, class_names: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Return a colour for each name: of classes, and of "none of these" if that is the last one.

    >>> named_colours("default", ["cat", "none of these"]).tolist()
    [[0, 114, 178], [184, 184, 184]]
    """
    background = len(class_names) > 1 and class_names[-1] == NONE_OF_THESE
    return colours(palette, len(class_names) - background, background=background)


def _as_array(palette: object) -> npt.NDArray[Any] | None:
    """Return an array; None for what cannot become one, or has colours that are masked."""
    try:
        array = np.asarray(palette.cpu() if isinstance(palette, Tensor) else palette)
    except (TypeError, ValueError, RuntimeError):  # ragged lists; sparse and meta tensors
        return None
    return None if np.ma.is_masked(palette) else array


def _named(name: str, classes: int) -> npt.NDArray[np.uint8]:
    check_choice("palette", name, PALETTES)
    if name == "voc":
        return _voc()
    tables = {
        "default": _DEFAULT, "ade20k": _ADE20K, "cityscapes": _CITYSCAPES, "camvid": _CAMVID,
        "loveda": _LOVEDA, "isaid": _ISAID, "uavid": _UAVID, "openearthmap": _OPENEARTHMAP,
    }  # fmt: skip
    table = np.frombuffer(bytes.fromhex(tables[name]), np.uint8).reshape(-1, 3)
    return table[np.arange(classes) % len(table)] if name == "default" else table


def _voc() -> npt.NDArray[np.uint8]:
    """Deal the bits of each class number to red, green and blue in turn, lowest bits on top."""
    index = np.arange(256)[:, None]
    bits = [(index >> (3 * place + np.arange(3)) & 1) << (7 - place) for place in range(8)]
    spread: npt.NDArray[np.uint8] = np.sum(bits, axis=0).astype(np.uint8)
    return spread
