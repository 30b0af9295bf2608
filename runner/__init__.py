"""Runs a recipe end to end. Start reading at ``runner.pipeline``."""
