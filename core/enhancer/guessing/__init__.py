"""Guess from tables as people have them what each table and column is, and which columns do not belong into a text."""
