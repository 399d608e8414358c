"""Embedders: ``sentence-transformers``, ``bge`` and ``minilm``."""
