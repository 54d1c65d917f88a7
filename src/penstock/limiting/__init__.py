"""How much an upstream is given at once and a minute, who is next, and who had better be refused."""
