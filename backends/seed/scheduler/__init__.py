"""Rounds, the jobs in them and their figures."""
