"""Write the report: one HTML page and a CSV file with every number."""
