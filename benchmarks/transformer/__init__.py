"""Refiners on the features and attention of a trained vision transformer."""
