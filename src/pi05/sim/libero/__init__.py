"""LIBERO: the benchmark's tasks in its own simulator, as an environment of `sim/protocol.py`."""
