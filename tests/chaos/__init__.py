"""Real processes and a real database under kills, stops, cut connections and restarts."""
