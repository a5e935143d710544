"""Benchmark rows, their report and their plot."""
