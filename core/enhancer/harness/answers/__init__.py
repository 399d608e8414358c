"""Turn the text of an answer into a valid profile, a re-ask or a quarantine entry."""
