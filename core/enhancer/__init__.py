"""LLM-written profiles, embedded offline, fused into collaborative filtering, and judged by a fair ablation."""
