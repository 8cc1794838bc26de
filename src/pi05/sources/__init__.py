"""Where a name leads: to a folder on this machine, to the hub's cache, or over the network."""
