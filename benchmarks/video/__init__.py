"""Frames of a clip refined one by one, and together."""
