"""Numba kernels and training steps for the CPU, and their numbers of threads."""
