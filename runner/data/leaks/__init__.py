"""Rows that occur in more than one partition: found, counted, listed."""
