"""Answering by meaning, put together of what is cached and how questions are matched. Has no I/O of its own."""
