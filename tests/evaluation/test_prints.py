"""Prints by the rules of a fill: worked by hand, and against a loop over single shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor_sb3.evaluation.prints import Terms, fade_shares_of, faded, prints_of
from sor_sb3.simulator.book import LADDER


def book(mid: tuple[float, float], levels: list[tuple[float, float]], hidden: float = 0.0) -> np.ndarray:
    """One LADDER (1, 1) of (price, shares)."""
    ladder = np.zeros((1, 1), LADDER)
    ladder["mid_bps"], ladder["mid_shares"], ladder["hidden_shares"] = *mid, hidden
    ladder["n_levels"] = len(levels)
    for level, (price, shares) in enumerate(levels):
        ladder["price_bps"][..., level], ladder["shares"][..., level] = price, shares
    return ladder


def terms(sent: float, limit: float, fade: float = 0.0, least: float = 0.0) -> Terms:
    return Terms(*(np.array([[x]]) for x in (sent, limit, fade, least)))


def taken(ladder: np.ndarray, its_terms: Terms) -> list[tuple[float, float]]:
    found = prints_of(ladder, its_terms)
    pairs = zip(found.shares[0, 0], found.price_bps[0, 0], strict=True)
    return [(float(q), float(p)) for q, p in pairs if q > 0]


def test_a_fill_at_three_levels_worked_by_hand():
    three = book((0.0, 30.0), [(1.0, 100.0), (2.0, 200.0), (3.0, 300.0)], hidden=20.0)
    # 30 at the midpoint; of the first level 100 less a fade of 40, and 20 hidden; 200; what is left of 400 at the third
    assert taken(three, terms(400.0, 3.0, fade=40.0)) == [(30.0, 0.0), (80.0, 1.0), (200.0, 2.0), (90.0, 3.0)]
    assert taken(three, terms(400.0, 2.0, fade=40.0)) == [(30.0, 0.0), (80.0, 1.0), (200.0, 2.0)]
    assert taken(three, terms(400.0, 1.0, fade=150.0)) == [(30.0, 0.0), (20.0, 1.0)]  # hidden size does not fade
    assert taken(three, terms(10.0, 3.0)) == [(10.0, 0.0)]
    assert taken(three, terms(400.0, -0.5)) == []


def test_a_fade_beyond_the_first_level_takes_the_second():
    assert faded(np.array([100.0, 200.0]), np.array(150.0)).tolist() == [0.0, 150.0]
    assert faded(np.array([100.0, 200.0]), np.array(900.0)).tolist() == [0.0, 0.0]


def test_a_dark_pool_fills_its_minimum_or_nothing():
    pool = book((0.0, 80.0), [])
    assert taken(pool, terms(200.0, 0.0, least=100.0)) == []
    assert taken(pool, terms(200.0, 0.0, least=80.0)) == [(80.0, 0.0)]


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=4),
    st.integers(0, 6),
    st.integers(0, 25),
    st.integers(0, 5),
    st.integers(0, 9),
    st.integers(0, 4),
)
def test_a_fill_is_share_by_share_the_cheapest_within_the_limit(sizes, mid, sent, limit, fade, hidden):
    ladder = book((0.5, mid), [(1.0 + level, size) for level, size in enumerate(sizes)], hidden)
    shares, gone = [0.5] * mid, fade
    for level, size in enumerate(sizes):
        left, gone = max(size - gone, 0), max(gone - size, 0)
        shares += [1.0 + level] * (left + (hidden if level == 0 else 0))
    expected = sorted(price for price in shares if price <= limit)[:sent]
    found = taken(ladder, terms(sent, limit, fade))
    assert sum(q for q, _ in found) == pytest.approx(len(expected))
    assert sum(q * p for q, p in found) == pytest.approx(sum(expected))


def test_fade_answers_what_was_filled_elsewhere_before_by_how_long_ago():
    arrives = np.array([[1.0, 1.5, np.nan]])
    filled = [(np.array([[1.0, np.nan, 0.2]]), np.array([[100.0, 0.0, 50.0]]))]
    toxicity = np.array([[2.0, 0.5, 3.0]])
    found = fade_shares_of(toxicity, arrives, filled, np.array([0.5]))[0]
    assert found[0] == pytest.approx(2.0 * 50.0 * (1 - np.exp(-0.8 / 0.5)))  # not its own fill of the same time
    assert found[1] == pytest.approx(0.5 * (100.0 * (1 - np.exp(-1.0)) + 50.0 * (1 - np.exp(-1.3 / 0.5))))
    assert found[2] == 0.0
