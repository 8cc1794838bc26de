"""LeRobot's data sets on disk, v2.0 to v3.0: reader and writer."""
