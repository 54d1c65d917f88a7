"""Experiments while they run: who gets which arm now, what is known so far, and when they end."""
