"""The hot loops, one package per backend; `interface` says what a backend offers."""
