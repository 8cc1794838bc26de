"""What the cameras show: every camera of every episode, decoded at a few frames."""
