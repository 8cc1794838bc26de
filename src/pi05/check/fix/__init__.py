"""`pi05 check --fix OUT`: a repaired copy of a data set, where a repair is safe; the set itself is never touched."""
