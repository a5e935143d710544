"""Evaluation of a data set: outcomes, summary and statistics."""
