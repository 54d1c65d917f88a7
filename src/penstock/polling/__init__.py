"""When to look again at work that runs elsewhere."""
