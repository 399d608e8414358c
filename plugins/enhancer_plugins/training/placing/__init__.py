"""Rows of entities without a training interaction: regression on vectors, its calibration, and rows without vectors."""
