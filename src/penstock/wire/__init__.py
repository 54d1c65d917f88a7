"""One file a dialect, both directions, no input or output: bytes and dictionaries in, bytes and dictionaries out."""
