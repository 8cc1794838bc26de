"""The processes of a run, and how they share one network."""
