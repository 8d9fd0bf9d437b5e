"""The shell: settings, log, wall clock, metrics, and one door to each outside system."""
