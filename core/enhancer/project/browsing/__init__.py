"""Browse items, users and quarantine as local pages."""
