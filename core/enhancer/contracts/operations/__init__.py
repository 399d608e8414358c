"""Contracts of parts that surround the models: databases of journals, and exporters."""
