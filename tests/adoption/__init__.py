"""Databases that the older library made, and its clients."""
