"""Where a request goes: names to targets, the order of the targets, and which of them to leave alone. Pure."""
