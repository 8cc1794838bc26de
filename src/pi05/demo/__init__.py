"""`pi05 demo`: from demonstrations to a measured policy, in the embedded simulator or in LIBERO."""
