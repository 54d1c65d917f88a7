"""How much of what answers a question is selected of a long text, how fast, and what conversations cost."""
