"""Studies: many runs planned, run, and compared from their result files alone."""
