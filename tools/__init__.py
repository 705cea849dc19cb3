"""Programs for the people who work on nsbridge; none of them is installed."""
