"""Measuring a policy: rollouts in a simulator, and the pages that show what came out."""
