"""Is this machine able to train, evaluate, serve? Probes measure, judges find, every finding has its remedy."""
