"""Render what prompts show from other tables than the entity's own: histories of users."""
