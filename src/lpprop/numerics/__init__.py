"""Solvers, graphs and the linear system of propagation, on which the refiners build."""
