"""A market in motion: batched, compiled, deterministic. Knows nothing of Gymnasium or SB3."""
