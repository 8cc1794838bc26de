"""What a run asks of its GPU: how it is set up, which attention kernel it gets, numbers that come back unasked for."""
