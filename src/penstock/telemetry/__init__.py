"""Counters for the metrics page and the set-up of logs."""
