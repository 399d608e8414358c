"""Batch APIs of the network providers, one module for each dialect."""
