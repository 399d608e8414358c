"""Diagnose profiles and vectors before training: geometry, agreement with behaviour, echoes and leaks."""
