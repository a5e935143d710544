"""Checkers of the six tasks: exact checks that YAML cannot express."""
