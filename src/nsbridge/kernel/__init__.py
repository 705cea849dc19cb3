"""Everything that acts on Linux or observes it."""
