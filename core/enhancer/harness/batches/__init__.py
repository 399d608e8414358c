"""Submit and collect batch jobs of the provider."""
