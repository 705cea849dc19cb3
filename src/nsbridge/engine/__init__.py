"""Use cases, each a few lines of deciding, journalling and doing."""
