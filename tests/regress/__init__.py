"""One test for each bug that was fixed."""
