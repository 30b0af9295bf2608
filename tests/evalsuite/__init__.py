"""Tests of evalsuite."""
