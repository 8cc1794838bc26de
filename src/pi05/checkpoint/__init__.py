"""Weights and runs on disk: the only place where foreign tensor names and file layouts exist."""
