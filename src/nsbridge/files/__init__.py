"""Topology files: read, checked, and turned into the model."""
