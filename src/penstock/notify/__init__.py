"""Telling people and programs: webhooks, mail, the log."""
