"""Run `generate`: ask about entities, embed and store what is new, and report."""
