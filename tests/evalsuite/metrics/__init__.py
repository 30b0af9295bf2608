"""Tests of evalsuite.metrics."""
