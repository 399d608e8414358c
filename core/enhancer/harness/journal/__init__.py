"""Keep paid completions, claims and batch jobs in an SQLite file."""
