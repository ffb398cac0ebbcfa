"""The console in a real browser, of a shop that runs in a process of its own."""
