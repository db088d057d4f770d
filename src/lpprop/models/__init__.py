"""Whole models: a backbone, an affinity and a method."""
