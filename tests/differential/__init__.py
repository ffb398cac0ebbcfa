"""Random storage operations on SQLite, PostgreSQL and the oracle: equal after each."""
