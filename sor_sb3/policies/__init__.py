"""Everything that answers ``predict`` and was not trained: rules, oracles, and how to make one by name."""
