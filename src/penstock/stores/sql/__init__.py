"""Answers, the ledger and stored completions in an SQL database; all I/O happens in threads of its own."""
