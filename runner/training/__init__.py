"""Trains an adapter and proves that the saved one is the trained one."""
