"""What every part of Penstock speaks: requests, responses, events, usage, errors, handlers, clock and tasks."""
