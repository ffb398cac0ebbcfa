"""Names in stored rows that more than one layer knows."""

OLDER_DEBOUNCER = "_dbos_debouncer_workflow"
"""The workflow that a round of debouncing is in the older library."""
