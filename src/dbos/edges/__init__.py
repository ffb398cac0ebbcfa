"""Adapters to the outside. Each needs at most one optional package, and is imported when it is asked for."""
