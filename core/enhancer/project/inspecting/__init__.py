"""Look into stored notes and vectors: what an entity has, what is near it, and why an item is recommended."""
