"""Diagnose profiles and vectors before training: wording, geometry, agreement with interactions, and leaks."""
