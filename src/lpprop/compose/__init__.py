"""Refiners put together: chains, fusion, presets, and `lpprop.refine`."""
