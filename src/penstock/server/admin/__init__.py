"""The admin API; one file a topic, who may call what in `penstock.server.permissions`."""
