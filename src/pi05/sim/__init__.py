"""Environments behind one small protocol, and their scripted experts. See neither model nor data loading."""
