"""Kernels in C for the CPU, compiled at first use where a compiler is installed."""
