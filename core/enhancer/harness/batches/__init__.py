"""Submit and collect offline batches of the provider."""
