"""Checks of states and actions, dimension by dimension."""
