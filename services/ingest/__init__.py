"""Ingest: the ways facts come in, the sources they come from, and the clock that says how far they go."""
