"""Calls that are refused, and how the error begins: the argument and what came.

One table per family of functions. What was expected and what to do are checked by their form.
"""

from error_tables import (
    baselines,
    classes,
    discrepancy,
    label_maps,
    masks,
    propagation,
    references,
    refine,
    regions,
    seeds,
)  # fmt: skip

TABLES = [
    propagation.TABLE, discrepancy.TABLE, baselines.TABLE, refine.TABLE, label_maps.TABLE,
    masks.TABLE, regions.TABLE, classes.TABLE, references.TABLE,
    seeds.TABLE,
]  # fmt: skip
TABLE = {name: row for table in TABLES for name, row in table.items()}
assert len(TABLE) == sum(map(len, TABLES)), "two rows of one name"
