"""Rows of users and items without a training interaction: regression on vectors, calibration, and what to do without."""
