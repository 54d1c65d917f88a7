"""Alembic's environment; `penstock.stores.sql.database` runs it when a database is not at the newest revision."""
