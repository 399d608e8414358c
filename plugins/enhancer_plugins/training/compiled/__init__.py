"""Numba kernels and training steps for the CPU, and their threads."""
