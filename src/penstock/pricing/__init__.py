"""What tokens cost, and how that is known."""
