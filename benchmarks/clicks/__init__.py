"""Clicks on pictures with true labels: what each method makes of how many."""
