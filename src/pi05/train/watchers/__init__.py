"""What is watched while a run goes on: what the policy reads, what needs no learning, loss, weights, averages."""
