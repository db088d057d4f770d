"""Progress of whatever takes longer than a second or two, in terminals, notebooks and logs."""

from __future__ import annotations

import sys

__all__ = ["in_notebook"]


def in_notebook() -> bool:
    """Tell whether this process is a notebook's kernel.

    >>> in_notebook()
    False
    """
    # Nobody runs a notebook's kernel without having imported it.
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")
