"""Read stored vectors as matrices for training."""
