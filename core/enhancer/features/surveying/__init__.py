"""Compare the tables with the store: what is missing, outdated, vanished, and what profiles were made from."""
