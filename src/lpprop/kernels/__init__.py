"""The hot loops, one file a backend. They take tensors that are checked already."""
