"""Deciding what budgets allow. Pure: no database, no network."""
