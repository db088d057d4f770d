"""The plan for ten million images: its page shows the committed figures, and they add up."""

import json

import pytest
from benchmarks.marked import MARKED, renew
from benchmarks.scale.__main__ import FILE, PAGE
from benchmarks.scale.plan import Assumed, count_operations, plan, plan_on_cores
from benchmarks.scale.tables import tables

# 100 patches of 768 features, 1,000 pixels, 2 classes; every second and byte a round number.
MEASURED = {
    "size": [20, 50], "classes": 2, "windows": 1, "patches": 100,
    "flops": {"scores": 3e9, "features": 1e9},
    "seconds": {"decode": 0.01, "encode": 0.03, "scores": 2.0, "features": 1.0,
                "patch step": 0.5, "pixel step": 0.06},
    "bytes": {"image": 1000, "pixels": 3000, "features": 50_000, "scores": 8000, "labels": 100},
}  # fmt: skip


def test_the_page_shows_the_committed_results(tmp_path):
    made = tables(json.loads(FILE.read_text()))
    text = PAGE.read_text()
    assert {name for _, name, _ in MARKED.findall(text)} == set(made)
    copy = tmp_path / "scale.md"
    copy.write_text(text)
    renew(copy, made)
    assert copy.read_text() == text


def test_operations_follow_the_published_settings():
    counted = count_operations(MEASURED)
    assert counted["networks"] == 4e9
    # k = 400 edges each way, 10 steps; 168 neighbours, 10 steps.
    assert counted["patch step"] == 2 * 100 * 100 * 768 + 2 * 10 * 800 * 100 * 2
    assert counted["pixel step"] == 2 * 10 * 168 * 1000 * 2


def test_a_plan_by_hand():
    refiners = (15_360_000 + 3_200_000 + 6_720_000) / 1e9
    assumed = Assumed(
        peak=(("float32", 1e10),), network_share=0.4, refiner_share=0.1, gpu_hour=3.6, node_gpus=4,
        node_network=1e6,
    )  # fmt: skip
    seconds = 1.0 + refiners + 0.04
    found = plan(MEASURED, assumed, "float32", 8)
    assert found["images per second"] == pytest.approx(8 / seconds)
    assert found["hours"] == pytest.approx(1e7 * seconds / 8 / 3600)
    assert found["read"] == pytest.approx(8000 / seconds)
    assert found["share of the network"] == pytest.approx(4 * 1000 / seconds / 1e6)
    assert found["with features"] == pytest.approx(4 * 50_000 / seconds / 1e6)
    assert found["dollars per million"] == pytest.approx(1000 * seconds)
    cores = plan_on_cores(MEASURED, Assumed(core_hour=0.36))
    assert cores["dollars per million"] == pytest.approx(360)  # 3.6 s each
