"""Keys and teams: in the store for good, in memory for every request, changed by those who may."""
