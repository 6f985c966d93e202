"""Runs: configs, folders, training, comparisons. A config is the experiment."""
