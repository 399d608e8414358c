"""Measure one model on one split: metrics, strata and panels."""
