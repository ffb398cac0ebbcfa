"""The words of the engine as values: statuses, writes, limits, names, time. Pure: standard library only."""
