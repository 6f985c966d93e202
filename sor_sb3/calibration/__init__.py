"""A market made from a recording: estimators of its parameters, simulated moments, and what of it is as recorded."""
