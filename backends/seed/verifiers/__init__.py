"""Verification rules: which drafted tokens are accepted."""
