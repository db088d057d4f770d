"""The hot loops, one file or folder a backend. They take tensors that are checked already."""
