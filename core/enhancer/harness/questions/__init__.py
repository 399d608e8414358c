"""Questions whose answers are no profiles: asked through the same journal, budget, gate and retry layer."""
