"""Refiners on labelled street images: `python -m benchmarks.camvid --root ../shared/camvid`."""
