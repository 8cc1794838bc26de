"""One file per command, all in the form that `command.py` gives. No torch when they are imported."""
