"""Who may do what: roles, keys and what they may be granted. Decisions only; nothing here reads or writes."""
