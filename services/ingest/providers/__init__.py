"""One module for each vendor: pure functions from what it sends to facts."""
