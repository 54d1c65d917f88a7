"""Decisions of the exact cache: what a key is, what may be stored, what may be served, what leaves first."""
