"""Bounds on time and on the number of statements."""
