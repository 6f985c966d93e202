"""Oracles: bounds, which see hidden state."""
