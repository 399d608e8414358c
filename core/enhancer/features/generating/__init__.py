"""Find what is to be generated and generate it, by direct calls or offline batches."""
