"""Embed texts, by a model in this process or by a server: paid for once, within the budget, one bad text at a time."""
