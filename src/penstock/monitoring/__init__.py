"""Watches the running process: samples what it measures, raises alerts, knows how well it goes."""
