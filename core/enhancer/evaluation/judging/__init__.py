"""Judge runs: paired tests, comparisons and the verdict in words."""
