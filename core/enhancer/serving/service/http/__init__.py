"""HTTP/1.1, and what a process may hold for it."""
