"""Processes killed at chosen points, and what recovery makes of them."""
