"""Reads a recipe file: strict YAML and JSON, every fault with its place."""
