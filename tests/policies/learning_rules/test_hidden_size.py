"""Almgren and Harts: the estimate follows a hidden reserve, a failed sweep zeroes it, time halves it."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.policies.learning_rules.hidden_size import estimate_hidden, sweep_with_hidden
from tests.policies.golden import GOLDEN


def test_the_estimate_follows_a_reserve_that_is_refilled():
    """A reserve of 120 shares behind 100 displayed, asked for 300 each time, is found at once and kept."""
    hidden, displayed, asked = np.zeros((1, 1)), np.full((1, 1), 100.0), np.full((1, 1), 300.0)
    for _ in range(5):
        hidden = estimate_hidden(hidden, np.ones(1), 30.0, asked, displayed, np.full((1, 1), 220.0))
        GOLDEN["almgren_harts"].check(found=hidden[0, 0])
    halved = estimate_hidden(hidden, np.full(1, 30.0), 30.0, 0 * asked, displayed, 0 * asked)
    zeroed = estimate_hidden(hidden, np.ones(1), 30.0, asked, displayed, displayed)
    GOLDEN["almgren_harts"].check(halved=halved[0, 0], zeroed=zeroed[0, 0])


def test_a_fill_that_is_cut_off_only_raises_it_and_an_order_inside_the_display_says_nothing():
    hidden, shown = np.full((1, 1), 80.0), np.full((1, 1), 100.0)
    raised = estimate_hidden(hidden, np.zeros(1), 30.0, np.full((1, 1), 130.0), shown, np.full((1, 1), 130.0))
    assert raised[0, 0] == 80.0
    inside = estimate_hidden(hidden, np.zeros(1), 30.0, np.full((1, 1), 90.0), shown, np.full((1, 1), 10.0))
    assert inside[0, 0] == 80.0


@pytest.mark.parametrize("hidden_share", [0.0, 0.5])
def test_it_beats_the_display_where_size_is_hidden_and_ties_where_none_is(hidden_share):
    """Two venues, a tick apart: what the cheap one hides is taken rather than paid a tick for."""
    rng, paid = np.random.default_rng(0), {"displayed": 0.0, "learned": 0.0}
    price, wanted, hidden = np.array([[1.0, 2.0]]), np.array([200.0]), np.zeros((1, 2))
    for _ in range(400):
        shown = rng.integers(1, 4, (1, 2)) * 50.0
        there = shown * (1.0 + hidden_share)
        for name, offered in (("displayed", shown), ("learned", shown + hidden)):
            asked = sweep_with_hidden(price, offered, wanted)
            filled = np.minimum(asked, there)
            left = wanted[0] - filled.sum()
            paid[name] += (filled * price).sum() + 2.0 * left
            if name == "learned":
                probed = np.where(asked >= shown, np.maximum(asked, shown + 25.0), asked)  # now and then asks for more
                hidden = estimate_hidden(hidden, np.ones(1), 30.0, probed, shown, np.minimum(probed, there))
    if hidden_share:
        assert paid["learned"] < 0.97 * paid["displayed"]
    else:
        assert paid["learned"] == paid["displayed"]


def test_a_sweep_takes_the_best_price_first_and_no_more_than_there_is():
    price, offered = np.array([[1.0, 1.0, 3.0, 2.0]]), np.array([[40.0, 60.0, 50.0, 0.0]])
    assert sweep_with_hidden(price, offered, np.array([50.0])).tolist() == [[20.0, 30.0, 0.0, 0.0]]
    assert sweep_with_hidden(price, offered, np.array([120.0])).tolist() == [[40.0, 60.0, 20.0, 0.0]]
    assert sweep_with_hidden(price, offered, np.array([500.0])).sum() == 150.0
