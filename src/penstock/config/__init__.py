"""Settings, where they come from, and what is found when nobody set anything."""
