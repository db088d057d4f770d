"""Methods side by side on one image: what each costs, changes and gets right, and how it looks."""

from lpprop.comparison.result import Comparison
from lpprop.comparison.rows import Row
from lpprop.comparison.run import compare

__all__ = ["Comparison", "Row", "compare"]
