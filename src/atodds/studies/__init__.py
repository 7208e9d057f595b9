"""Studies: a plan of runs, and what their tables say together."""
