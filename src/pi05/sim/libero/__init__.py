<<<<<<< HEAD
"""LIBERO: its set-up on this machine, and its tasks as environments of `sim/protocol.py`."""
=======
"""LIBERO: the benchmark's tasks in its own simulator, as an environment of `sim/protocol.py`."""
>>>>>>> libero-eval
