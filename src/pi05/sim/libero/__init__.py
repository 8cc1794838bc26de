"""LIBERO: its set-up on this machine, and its tasks as environments of `sim/protocol.py`."""
