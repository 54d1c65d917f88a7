"""Where answers, records and stored completions are kept."""
