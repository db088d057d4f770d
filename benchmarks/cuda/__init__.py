"""What `benchmarks.gpu` measures on a GPU beyond the works of all benchmarks."""
