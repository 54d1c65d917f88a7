"""What of a long conversation is sent, decided without I/O."""
