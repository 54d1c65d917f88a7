"""What the ledger says about a period: sums, percentiles, ratings, and the forms reports are given in. No I/O."""
