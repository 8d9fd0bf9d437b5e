"""Whether the tree keeps its own rules."""
