"""What a run leaves to be read: metrics, history, trackers; and reading it back."""
