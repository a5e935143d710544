"""Other engines as modes of the benchmark: each runs in a Python environment of its own and is driven over a pipe."""
