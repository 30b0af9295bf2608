"""Conversations to token ids with labels, and the label contract that every row is held to."""
