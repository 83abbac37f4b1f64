"""A candidate trained from scratch: on the log in one pass, or on a few rows."""
