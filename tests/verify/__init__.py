"""Randomised and model-based tests."""
