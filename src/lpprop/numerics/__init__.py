"""What the refiners are made of: solvers, graphs and the linear system over them."""
