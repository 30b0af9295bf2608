"""Held-out loss, generation, metrics, statistics and gates: evidence about an adapter."""
