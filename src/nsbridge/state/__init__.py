"""What a kernel holds, as values."""
