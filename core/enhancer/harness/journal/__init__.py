"""Keep every paid completion, claim and batch job in an SQLite file."""
