"""The inputs beside the scores: how they are made, converted and checked."""
