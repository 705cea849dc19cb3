"""Telling what was done and why, in values: transcripts, rules, pictures."""
