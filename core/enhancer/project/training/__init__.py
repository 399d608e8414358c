"""Train, test, refit on all interactions, and write the serving artifact with its card."""
