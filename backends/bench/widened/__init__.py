"""Checkpoints of a larger shape that compute the function of a smaller model."""
