"""What the workers of one machine have in common: files in memory that all of them map, each with a lock."""
