"""Write the ablation report: an HTML page with plots and profiles, and a CSV file with all numbers."""
