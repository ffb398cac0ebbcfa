"""What the type checkers must accept and must refuse; checked by `make typing`."""
