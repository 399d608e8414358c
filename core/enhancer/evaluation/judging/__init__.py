"""Compare the arms of an ablation, test differences for significance, and state the verdict."""
