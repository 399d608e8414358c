"""Numba kernels and whole training steps for the CPU."""
