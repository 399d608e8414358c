"""Weigh what generated texts gain against what they cost: rungs, shares of the catalogue, prices and the frontier."""
