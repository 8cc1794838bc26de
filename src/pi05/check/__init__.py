"""Is a data set sound, for the base and the recipe that it is trained with? Behind `pi05 check` and `pi05 train`."""
