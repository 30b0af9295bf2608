"""Formats of datasets: how a row becomes a conversation."""
