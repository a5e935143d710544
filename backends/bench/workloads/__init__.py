"""Prompts and texts that a benchmark runs."""
