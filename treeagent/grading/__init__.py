"""Grading: whether an answer agrees with the gold answer of a data row."""
