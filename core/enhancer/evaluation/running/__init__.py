"""Run an experiment: arms, training runs, workers, hyper-parameter search, reference lines and the run cache."""
