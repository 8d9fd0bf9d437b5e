"""Handoffs: a clock on every change of owner, from its opening to its acceptance."""
