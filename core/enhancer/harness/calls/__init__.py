"""Make one call: cache key, gate, budget, deadline, retry and journal."""
