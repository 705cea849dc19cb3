"""What outlives a command: one small file per thing."""
