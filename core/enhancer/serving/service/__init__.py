"""Serve an artifact over HTTP."""
