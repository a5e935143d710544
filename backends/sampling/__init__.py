"""Logit warpers and keyed, counter-based noise."""
