"""LeRobot's checkpoint folders: its names of tensors, its processors, read and written."""
