"""Run the work of verbs through the runner of ``[runner]``."""
