"""What a run takes from its data set and from its base, before anything is computed."""
