"""Drafts of token tables, without a model."""
