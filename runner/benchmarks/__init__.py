"""Benchmarks: their rows with few-shot examples and choices, as conversations to be evaluated."""
