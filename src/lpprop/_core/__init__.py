"""Plumbing that every floor stands on: errors, checks, precision, memory, conversion."""
