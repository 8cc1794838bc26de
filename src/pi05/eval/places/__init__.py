"""Where episodes take place: environments in this process or in others, lent to one episode after another."""
