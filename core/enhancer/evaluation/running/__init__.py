"""Run the experiment: arms, seeds, workers, search, reference lines and the run cache."""
