"""What clients of servers share, whatever they ask for."""
