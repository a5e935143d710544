"""Heads: drafters that read hidden states of their target."""
