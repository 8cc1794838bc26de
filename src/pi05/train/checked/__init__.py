"""What `check` looks at, put together from a run's settings, and the gate that a run passes before it trains."""
