"""What a request costs, part by part: microseconds by sampling, instructions by counting."""
