"""What only pi05's own checkpoint folders have."""
