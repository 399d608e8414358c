"""HTTP service for an artifact."""
