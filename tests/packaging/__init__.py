"""The packages that users install."""
