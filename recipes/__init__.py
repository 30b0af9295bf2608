"""Recipes, their JSON Schema, and the embedded quickstart: data, and no logic."""
