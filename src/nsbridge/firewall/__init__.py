"""Firewall rules as values, and the backends that put them into a kernel."""
