"""What a robot sends while a policy runs: what must not be wrong with it, at which rate, and how it is kept."""
