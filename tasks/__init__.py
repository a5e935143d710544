"""Checkers: what tasks know beyond their YAML files."""
