"""Choose the backbone for ``[backbone] use = "auto"``: candidates, trial fits, and the result."""
