"""Whether anything became slower: ratios to floors and peers against those of the last release."""
