"""A puzzle, a search, an evaluator and a backend for treeagent."""
