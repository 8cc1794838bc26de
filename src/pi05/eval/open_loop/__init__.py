"""Evaluation without a simulator: what a policy predicts in recorded episodes, beside what the demonstrator did."""
