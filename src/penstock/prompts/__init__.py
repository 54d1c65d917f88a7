"""Prompts in files: named, versioned, with declared variables."""
