"""The public surface: the decorators, the ``DBOS`` façade, handles, configuration. Thin: no SQL, no threads."""
