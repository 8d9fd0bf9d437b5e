"""The vocabulary that slices share. Pure: no clock, no input or output, no randomness."""
