"""A policy written in the layout of another program, with proof that it is the same policy."""
