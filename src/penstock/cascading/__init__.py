"""What cascades learn while they run: audits, labels, what they save, and how it is kept."""
