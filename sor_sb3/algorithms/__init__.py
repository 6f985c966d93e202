"""Learning algorithms, policies, their registry and their hyperparameters."""
