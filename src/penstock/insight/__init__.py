"""What the ledger teaches: its calls replayed through the policies with other settings, and rules of thumb."""
