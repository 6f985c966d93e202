"""Actions as weights: what every action_adapter can express, and what it does with what it cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sor_sb3.envs.action_adapters import OrderSplit, VenueSelect, make_action_adapter
from sor_sb3.errors import UserError

K = st.integers(2, 12)


@st.composite
def boxes(draw):
    k = draw(K)
    return draw(arrays(np.float32, (draw(st.integers(1, 4)), k), elements=st.floats(-1, 1, width=32)))


@given(boxes())
@settings(deadline=None)
def test_weights_are_the_positive_parts_normalised(actions):
    weights, pace = OrderSplit(actions.shape[1]).decode(actions)
    assert pace is None and weights.dtype == np.float64
    assert np.all(weights >= 0.0) and np.allclose(weights.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    positive = np.maximum(actions.astype(np.float64), 0.0)
    for row, total, w in zip(positive, positive.sum(axis=1), weights, strict=True):
        np.testing.assert_allclose(w, row / total if total > 0 else 1.0 / len(row), rtol=1e-12)


@given(boxes())
@settings(deadline=None)
def test_decode_leaves_the_actions_alone(actions):
    kept = actions.copy()
    OrderSplit(actions.shape[1]).decode(actions)
    assert np.array_equal(actions, kept)


@given(K, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_point_of_the_simplex_maps_to_itself(k, seed):
    weights = np.random.default_rng(seed).dirichlet(np.full(k, 0.3), size=8)
    action_adapter = OrderSplit(k)
    actions = action_adapter.encode(weights)
    assert actions.dtype == np.float32 and all(row in action_adapter.space for row in actions)
    np.testing.assert_allclose(action_adapter.decode(actions)[0], weights, atol=2e-7)
    np.testing.assert_allclose(action_adapter.decode(weights)[0], weights, rtol=1e-14)


@given(K)
@settings(deadline=None)  # kernels may be compiled first
def test_vertices_are_reached_exactly_by_both_codecs(k):
    for action_adapter in (OrderSplit(k), VenueSelect(k)):
        actions = action_adapter.encode(np.eye(k))
        assert all(action_adapter.space.contains(action) for action in actions)
        assert np.array_equal(action_adapter.decode(actions)[0], np.eye(k))


@pytest.mark.parametrize("action", [0.0, -1.0, -0.3])
def test_nothing_positive_means_an_even_split(action):
    weights, _ = OrderSplit(4).decode(np.full((3, 4), action, dtype=np.float32))
    assert np.array_equal(weights, np.full((3, 4), 0.25))


@given(boxes(), st.integers(0, 15))
@settings(deadline=None)
def test_in_a_later_wave_nothing_positive_means_nothing(actions, bits):
    is_later = np.array([bool(bits >> i & 1) for i in range(len(actions))])
    weights, _ = OrderSplit(actions.shape[1]).decode(actions, is_later=is_later)
    expected, _ = OrderSplit(actions.shape[1]).decode(actions)
    expected[is_later & ~(actions > 0.0).any(axis=1)] = 0.0
    assert np.array_equal(weights, expected)


def test_a_single_row_is_a_batch_of_one():
    assert OrderSplit(3).decode(np.array([1.0, 1.0, 0.0]))[0].shape == (1, 3)
    assert VenueSelect(3).decode(np.int64(2))[0].tolist() == [[0.0, 0.0, 1.0]]


def test_a_split_goes_to_the_venue_of_its_largest_weight():
    assert VenueSelect(3).encode(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])).tolist() == [1, 0]


def test_the_smallest_positive_action_counts():
    tiny = np.array([[np.float32(1e-45), 0.0]], dtype=np.float32)
    assert OrderSplit(2).decode(tiny)[0].tolist() == [[1.0, 0.0]]


def test_codecs_go_by_the_names_of_the_envs():
    assert make_action_adapter("sor_sb3:VenueSelect-v1", 3) == VenueSelect(3)
    assert make_action_adapter("OrderSplit-v1", 3) == OrderSplit(3)
    with pytest.raises(UserError, match="expected one of VenueSelect-v1, OrderSplit-v1"):
        make_action_adapter("Nothing-v7", 3)


@pytest.mark.parametrize("env_id", ["OrderSplit-v0", "sor_sb3:VenueSelect-v0"])
def test_envs_of_the_first_market_are_refused(env_id):
    with pytest.raises(UserError, match=r"belongs to the first market.*-v1, and train its models anew"):
        make_action_adapter(env_id, 3)
