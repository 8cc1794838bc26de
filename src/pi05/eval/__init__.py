"""Measuring a policy: rollouts in a simulator, what came of them, and their report."""
