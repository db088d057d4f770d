"""Refiners put together: chains, fusion, presets, and what `lpprop.refine` does."""
