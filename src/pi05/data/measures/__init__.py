"""How far predicted chunks of actions are from the demonstrator's, and beside what that has to be read."""
