"""Learners of the literature, apart from any env: counts in, allocation out, many independent lives side by side.

A learner holds its settings only. What it has learned is a `State`: a tuple of arrays whose first axis is the life, n.
`learn` returns a new state and leaves the old one alone. A state of one life may be asked for many rows at once.
Without a generator nothing is explored: what a learner does once its learning is over.
"""

from __future__ import annotations

import numpy as np

State = tuple[np.ndarray, ...]
