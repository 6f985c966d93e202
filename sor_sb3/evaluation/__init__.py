"""Scores and statistics. It never asks whether a policy was learned."""
