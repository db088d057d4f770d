"""What the whole package shares: errors, checks, precision, memory, conversion."""
