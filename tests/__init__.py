"""Everything that checks Steward."""
