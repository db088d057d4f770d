"""Benchmarks: one module a family of methods, all under the contract of `benchmarks.contract`."""
