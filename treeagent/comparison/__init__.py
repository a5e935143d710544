"""Comparison of backends on the same search."""
