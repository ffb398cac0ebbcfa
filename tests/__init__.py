"""The test suite of dbos."""
