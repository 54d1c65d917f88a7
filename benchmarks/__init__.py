"""Each module answers one named question: `python -m benchmarks.NAME --json`; the last line is one JSON object."""
