"""Searches and evaluators. Importing this package loads none; the registry does, by name."""
