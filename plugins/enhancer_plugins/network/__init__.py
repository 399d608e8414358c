"""Parts that clients of servers share, whatever they ask for."""
