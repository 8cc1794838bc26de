"""Typed plain data, the flags that set it, and LeRobot's flags in its spelling. Torch-free."""
