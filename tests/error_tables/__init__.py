"""Calls that are refused, and what is said: one table a family of functions."""

from error_tables import baselines, discrepancy, label_maps, propagation, refine

TABLES = [
    propagation.TABLE, discrepancy.TABLE, baselines.TABLE, refine.TABLE, label_maps.TABLE,
]  # fmt: skip
TABLE = {name: row for table in TABLES for name, row in table.items()}
assert len(TABLE) == sum(map(len, TABLES)), "two rows of one name"
