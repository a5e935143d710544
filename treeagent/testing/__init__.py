"""Contracts of plug-ins as functions that a test calls. They assert, and need no test framework."""
