"""What should be: from a topology, or a fragment of one, to the things a kernel should hold."""
