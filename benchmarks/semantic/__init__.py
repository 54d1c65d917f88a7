"""How often answering by meaning is right, beside others, on public sets."""
