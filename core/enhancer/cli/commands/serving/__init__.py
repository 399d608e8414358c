"""Commands around the serving artifact: serve, recommend, export."""
