"""The door: what a kernel may not be given is refused in one sentence, by every adapter, before any compiled code."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

import sor_sb3
from sor_sb3.envs.core import LARGEST_REWARD, RoutingCore
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market, preset_names

ENV_IDS = ("VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1")
BOXES = ENV_IDS[1:]
N = 4
K = load_market("us_equity").n_venues
NYSE = load_market("us_equity").venue_names[0]


def stepper(adapter: str, env_id: str, market: Any = "us_equity", n: int = N) -> Any:
    """What steps a batch of `n` actions (of 1 in the lone env), reset, through one of the adapters."""
    if adapter == "gym":
        env: Any = gym.make(f"sor_sb3:{env_id}", market=market).unwrapped
        env.reset(seed=0)

        def step(actions: Any) -> float:
            _, reward, ended, _, _ = env.step(actions[0])
            if ended:
                env.reset()
            return reward

        return step
    if adapter == "vector":
        vector = gym.make_vec(f"sor_sb3:{env_id}", num_envs=n, market=market)
        vector.reset(seed=0)
        return lambda actions: vector.step(actions)[1]
    venv = sor_sb3.make_vec_env(env_id, market=market, n_envs=n, seed=0)
    venv.reset()
    return lambda actions: venv.step(actions)[1]


def sound(env_id: str, n: int = N, k: int = K) -> np.ndarray:
    """Actions that every adapter takes."""
    if env_id == "VenueSelect-v1":
        return np.zeros(n, np.int64)
    return np.ones((n, k + (env_id == "OrderExecute-v1")), np.float32)


def refused(step: Any, actions: Any) -> str:
    with pytest.raises(UserError) as caught:
        step(actions)
    said = str(caught.value)
    assert "\n" not in said and said
    return said


adapters = pytest.mark.parametrize("adapter", ["gym", "sb3", "vector"])
envs = pytest.mark.parametrize("env_id", ENV_IDS)


# --------------------------------------------------------------------------------------------- values


@adapters
@pytest.mark.parametrize("env_id", BOXES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_what_is_not_finite_is_refused_with_row_and_venue(adapter, env_id, value, dtype):
    step, actions = stepper(adapter, env_id), sound(env_id).astype(dtype)
    actions[0, 2] = value
    venue = load_market("us_equity").venue_names[2]
    said = refused(step, actions)
    assert said == f"{env_id}: the action of row 0 for venue {venue} is {value}; expected a finite number"
    step(sound(env_id))  # and the env goes on


@pytest.mark.parametrize("market", preset_names())
def test_one_nan_among_many_rows_is_found_in_every_market(market):
    k = load_market(market).n_venues
    step, actions = stepper("sb3", "OrderSplit-v1", market, n=50), sound("OrderSplit-v1", 50, k)
    actions[37, k - 1] = np.nan
    assert f"row 37 for venue {load_market(market).venue_names[-1]}" in refused(step, actions)


@adapters
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_pace_that_is_not_finite_is_refused(adapter, value):
    actions = sound("OrderExecute-v1")
    actions[0, -1] = value
    said = refused(stepper(adapter, "OrderExecute-v1"), actions)
    assert said == f"OrderExecute-v1: the action of row 0 for the pace is {value}; expected a finite number"


@adapters
@pytest.mark.parametrize("value", [-1, K, 10**9, 2.7, -0.5, np.nan, np.inf, -np.inf, 1e308, np.uint64(2**64 - 1)])
def test_a_venue_number_out_of_range_or_not_whole_is_refused(adapter, value):
    actions = np.zeros(N, dtype=np.asarray(value).dtype)
    actions[0] = value
    said = refused(stepper(adapter, "VenueSelect-v1"), actions)
    assert said.startswith(
        f"VenueSelect-v1: the action of row 0 is {actions[0]}; expected a whole number from 0 (venue "
    )
    assert said.endswith(f"to {K - 1} (venue {load_market('us_equity').venue_names[-1]})")


@adapters
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, np.float32, np.float64])
def test_whole_numbers_of_any_type_are_venue_numbers(adapter, dtype):
    rewards = [stepper(adapter, "VenueSelect-v1")(np.full(N, 3, t)) for t in (np.int64, dtype)]
    np.testing.assert_array_equal(*rewards)


@pytest.mark.parametrize("env_id", BOXES)
@pytest.mark.parametrize("value", [1e308, 1.7e308, np.finfo(np.float64).max])
def test_numbers_whose_sum_overflows_are_weights_all_the_same(env_id, value):
    expected = RoutingCore(env_id, "us_equity", N).action_adapter.decode(sound(env_id))[0]
    weights = RoutingCore(env_id, "us_equity", N).action_adapter.decode(sound(env_id).astype(np.float64) * value)[0]
    np.testing.assert_allclose(weights, expected, rtol=1e-12)
    assert np.isfinite(stepper("sb3", env_id)(sound(env_id).astype(np.float64) * value)).all()


# --------------------------------------------------------------------------------------------- shapes and types


@pytest.mark.parametrize("adapter", ["sb3", "vector"])
@envs
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 5, 400])
def test_too_few_and_too_many_rows_are_refused(adapter, env_id, rows):
    actions = sound(env_id, rows)
    said = refused(stepper(adapter, env_id), actions)
    assert said.startswith(f"{env_id}: actions are {actions.shape}; expected 4 rows of ")


def test_the_case_of_one_row_for_four_envs():
    said = refused(stepper("sb3", "OrderSplit-v1"), np.ones((10,), np.float32))
    assert said == "OrderSplit-v1: actions are (10,); expected 4 rows of 10"
    assert "actions are (2,); expected 4 rows of 1" in refused(stepper("sb3", "VenueSelect-v1"), np.array([0, 0]))


@adapters
@envs
def test_rows_of_the_wrong_length_are_refused(adapter, env_id):
    shape = sound(env_id).shape[1:]
    for wrong in ((*shape, 1), (1, *shape), (*shape[:-1], 99), (0,), (K + 5,)):
        assert "actions are (" in refused(stepper(adapter, env_id), np.zeros((N, *wrong), np.float32))


@adapters
@envs
@pytest.mark.parametrize("dtype", [bool, complex, object, "U5", "S5", "datetime64[s]"])
def test_what_is_no_number_is_refused_by_its_type(adapter, env_id, dtype):
    actions = sound(env_id).astype(dtype)
    if dtype is object and actions.ndim == 1:
        actions[:] = None  # one integer among objects is an integer
    said = refused(stepper(adapter, env_id), actions)
    assert said.startswith(f"{env_id}: actions are of type ") and said.endswith("; expected numbers")


@adapters
@envs
@pytest.mark.parametrize("actions", [[None] * N, [[1.0, 2.0], [1.0], [1.0], [1.0]], [{}] * N, ["a"] * N, [[[]]] * N])
def test_lists_of_anything_else_are_refused(adapter, env_id, actions):
    refused(stepper(adapter, env_id), actions)


@pytest.mark.parametrize("actions", [None, 1.0, 3, "left", {}, object(), np.float32(1), np.array(0)])
@pytest.mark.parametrize("adapter", ["sb3", "vector"])
def test_one_number_is_no_batch(adapter, actions):
    refused(stepper(adapter, "VenueSelect-v1"), actions)
    refused(stepper(adapter, "OrderSplit-v1"), actions)


@adapters
@envs
def test_how_an_array_lies_in_memory_does_not_matter(adapter, env_id):
    actions = sound(env_id)
    if actions.ndim > 1:
        actions = np.random.default_rng(0).uniform(-1, 1, actions.shape).astype(np.float32)
    laid_out = np.zeros((*actions.shape, 2), actions.dtype)
    laid_out[..., 1] = actions
    expected = stepper(adapter, env_id)(actions)
    for same in (laid_out[..., 1], np.asfortranarray(actions), actions.tolist(), actions.astype(np.float64)):
        np.testing.assert_array_equal(stepper(adapter, env_id)(same), expected)


def test_integers_and_halves_are_weights():
    step = [stepper("sb3", "OrderSplit-v1") for _ in range(3)]
    expected = step[0](sound("OrderSplit-v1"))
    np.testing.assert_array_equal(step[1](np.ones((N, K), np.int64)), expected)
    np.testing.assert_array_equal(step[2](np.ones((N, K), np.float16)), expected)


# --------------------------------------------------------------------------------------------- how an env is made


@pytest.mark.parametrize("value", [0, -1, 2.5, np.nan, "4", None, True, [4]])
def test_a_number_of_envs_or_threads_that_is_no_count_is_refused(value):
    for name in ("n_envs", "threads"):
        with pytest.raises(UserError, match=rf"^{name} is .*; expected a whole number of at least 1$"):
            sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", **{name: value})
    with pytest.raises(UserError, match=r"^envs_per_scenario is "):
        sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", envs_per_scenario=value)


@pytest.mark.parametrize("value", [0, -1, 2.5, None])
def test_gymnasium_and_the_evaluator_refuse_them_too(value):
    with pytest.raises(UserError, match=r"^n_envs is .*; expected a whole number of at least 1$"):
        gym.make_vec("sor_sb3:OrderSplit-v1", num_envs=value, market="notebook")
    with pytest.raises(UserError, match=r"^scenarios is .*; expected a whole number of at least 1$"):
        sor_sb3.evaluate({"p": "all_in"}, market="notebook", scenarios=value)


def test_numpys_integers_are_counts():
    assert sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", n_envs=np.int64(3)).num_envs == 3


@pytest.mark.parametrize("value", ["", "Test", "training", None, 0, ["train"]])
def test_an_unknown_data_split_is_refused(value):
    for make in (gym.make, sor_sb3.make_vec_env):
        with pytest.raises(UserError, match=r"is unknown; expected one of train, validation, test"):
            make("sor_sb3:OrderSplit-v1", market="notebook", data_split=value)


@pytest.mark.parametrize("seeds", [[], [1], [1, 2, 3], [1, 2, 3, 4, 5]])
def test_seeds_of_the_wrong_number_change_nothing(seeds):
    core = RoutingCore("OrderSplit-v1", "notebook", N)
    before = core.seeds.copy()
    with pytest.raises(UserError, match=rf"^{len(seeds)} seeds are given; expected 4, one for each env$"):
        core.seed(seeds)
    np.testing.assert_array_equal(core.seeds, before)
    with pytest.raises(UserError, match="seeds are given"):
        gym.make_vec("sor_sb3:OrderSplit-v1", num_envs=N, market="notebook").reset(seed=seeds)


@pytest.mark.parametrize("seed", [2.5, "7", np.nan, [1, 2, 3.5, 4]])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    core = RoutingCore("OrderSplit-v1", "notebook", N)
    with pytest.raises(UserError, match=r"^seed is .*; expected a whole number$"):
        core.seed([0, seed, 1, 2]) if not isinstance(seed, list) else core.seed(seed)
    if not isinstance(seed, list):
        with pytest.raises(UserError, match=r"^seed is .*; expected a whole number$"):
            sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", seed=seed)
        with pytest.raises(UserError, match=r"^seed is .*; expected a whole number$"):
            sor_sb3.evaluate({"p": "all_in"}, market="notebook", scenarios=2, seed=seed)


@envs
def test_a_step_before_the_first_reset_is_refused(env_id):
    venv = RoutingVecEnv(env_id, "us_equity", n_envs=N)
    assert "call reset() first" in refused(venv.step, sound(env_id))


@pytest.mark.parametrize("old", [{"envs_per_day": 2}, {"split": "test"}])
def test_old_argument_names_work_with_a_warning(old):
    new = {"envs_per_scenario": 2} if "envs_per_day" in old else {"data_split": "test"}
    with pytest.warns(DeprecationWarning, match=f"'{next(iter(old))}' is now '{next(iter(new))}'"):
        venv = sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", n_envs=4, seed=0, **old)
    expected = sor_sb3.make_vec_env("OrderSplit-v1", market="notebook", n_envs=4, seed=0, **new)
    np.testing.assert_array_equal(venv.reset(), expected.reset())


def test_the_other_doors_take_the_old_name_of_the_data_split():
    with pytest.warns(DeprecationWarning, match="'split' is now 'data_split'"):
        lone: Any = gym.make("sor_sb3:OrderSplit-v1", market="notebook", split="test")
    assert lone.unwrapped.core.data_split == "test"
    with pytest.warns(DeprecationWarning, match="'split' is now 'data_split'"):
        result = sor_sb3.evaluate({"p": "all_in"}, market="notebook", scenarios=2, split="validation")
    assert result.data_split == "validation"


# --------------------------------------------------------------------------------------------- rewards


@pytest.mark.parametrize("fee", [1e39, 1e200])
@envs
def test_a_reward_that_float32_cannot_hold_is_refused(env_id, fee):
    data = json.loads(load_market("us_equity").model_dump_json())
    for venue in data["venues"]:
        venue["take_fee_bps"] = fee
    try:
        market = type(load_market("us_equity")).model_validate(data)
    except ValueError:
        return  # the market itself may refuse such a fee
    said = refused(stepper("sb3", env_id, market), sound(env_id))
    assert said.startswith(f"{env_id} in market 'us_equity': the cost of row 0 is ")
    assert f"expected less than {LARGEST_REWARD:g}" in said


# --------------------------------------------------------------------------------------------- any actions at all


NUMBERS = st.one_of(
    st.floats(width=64),
    st.floats(-1.0, 1.0),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, np.nan, np.inf, 1e308, 5e-324, 2.7]),
    st.integers(-2, 12).map(float),
)
ANYTHING = st.one_of(
    st.none(),
    st.integers(),
    st.text(max_size=3),
    st.lists(st.one_of(st.none(), st.integers(-2, 12), NUMBERS, st.lists(NUMBERS, max_size=3)), max_size=5),
    arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8, np.bool_, np.complex64]),
        array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12),
    ),
)
CASES = st.tuples(
    st.sampled_from(preset_names()),
    st.sampled_from(ENV_IDS),
    st.sampled_from(["gym", "sb3", "vector"]),
)
_steppers: dict[tuple[str, str, str], Any] = {}


@st.composite
def batches(draw: Any) -> tuple[tuple[str, str, str], Any]:
    """An env and actions that are mostly of the right shape."""
    case = draw(CASES)
    shape = sound(case[1], N, load_market(case[0]).n_venues).shape
    if draw(st.integers(0, 3)) == 0:
        return case, draw(ANYTHING)
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    with np.errstate(over="ignore", invalid="ignore"):
        if draw(st.booleans()):
            return case, draw(arrays(np.float64, shape, elements=NUMBERS)).astype(dtype)
        whole = len(shape) == 1 and draw(st.booleans())
        elements = st.integers(0, 3).map(float) if whole else st.floats(-1.0, 1.0)
        return case, draw(arrays(np.float64, shape, elements=elements)).astype(np.int64 if whole else dtype)


def take_or_refuse(batch: tuple[tuple[str, str, str], Any]) -> None:
    """One step: finite rewards, or one sentence."""
    case, actions = batch
    market, env_id, adapter = case
    if case not in _steppers:
        _steppers[case] = stepper(adapter, env_id, market)
    if adapter == "gym":  # the lone env is given an action, not a batch
        try:
            actions = [actions[0]]
        except (TypeError, IndexError, KeyError):
            actions = [actions]
    try:
        rewards = _steppers[case](actions)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
    else:
        assert np.isfinite(rewards).all()
        rows = np.asarray(actions, dtype=np.float64)
        assert np.isfinite(rows).all(), "what is not finite was taken"
        if env_id == "VenueSelect-v1":
            assert np.all((rows >= 0) & (rows < load_market(market).n_venues) & (rows == np.floor(rows)))


fuzz = settings(deadline=60_000, suppress_health_check=list(HealthCheck), max_examples=200)


@given(batches())
@fuzz
def test_any_actions_are_taken_with_finite_rewards_or_refused_in_a_sentence(batch):
    take_or_refuse(batch)


@pytest.mark.slow
@given(batches())
@settings(fuzz, max_examples=10_000)
def test_ten_thousand_actions_are_taken_or_refused(batch):
    take_or_refuse(batch)
