"""Refine in the worker processes of a torch DataLoader, item by item and shard by shard.

python docs/scripts/batch_torch.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import lpprop


def make_item(number: int) -> dict[str, Any]:
    """Stand in for what a model's scores and features are read from."""
    rng = np.random.default_rng(number)
    h, w = 3 + number % 2, 4
    return {
        "logits": rng.standard_normal((5, h, w), dtype=np.float32),
        "feats": rng.standard_normal((8, h, w), dtype=np.float32),
        "image": rng.integers(0, 256, (16 * h, 16 * w, 3), dtype=np.uint8),
        "number": number,
    }


class Refined(Dataset[dict[str, Any]]):
    """Items that are refined when they are asked for."""

    def __init__(self, refine: lpprop.batch.Refine, length: int) -> None:
        self.refine, self.length = refine, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.refine.process(make_item(number))


class RefinedStream(IterableDataset[dict[str, Any]]):
    """Batches that are refined as they come; each worker has its share of them."""

    def __init__(self, refine: lpprop.batch.Refine, batches: list[range]) -> None:
        self.refine, self.batches = refine, batches

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for numbers in self.batches[first::step]:
            items = [make_item(number) for number in numbers]
            yield self.refine({name: [item[name] for item in items] for name in items[0]})


def as_it_is(batch: Any) -> Any:
    """Leave images of several sizes in a list, since they cannot be stacked."""
    return batch


def main() -> tuple[dict[int, Any], dict[int, Any]]:
    """Refine the same items both ways; return the labels by number."""
    refine = lpprop.batch.Refine("lposs", k=3)
    by_item, by_batch = {}, {}
    loader = DataLoader(Refined(refine, 6), batch_size=2, num_workers=2, collate_fn=as_it_is)
    for batch in loader:
        by_item |= {item["number"]: item["labels"] for item in batch}
    stream = RefinedStream(refine, [range(0, 2), range(2, 4), range(4, 6)])
    for out in DataLoader(stream, batch_size=None, num_workers=2, collate_fn=as_it_is):
        by_batch |= dict(zip(out["number"], out["labels"], strict=True))
    return by_item, by_batch


if __name__ == "__main__":
    by_item, by_batch = main()
    for number in sorted(by_item):
        print(number, by_item[number].shape, np.array_equal(by_item[number], by_batch[number]))
