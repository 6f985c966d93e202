"""The evaluator: same scenarios for everybody, parts that add up, no global generator touched."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecNormalize

import sor_sb3
from sor_sb3.algorithms.policies import VenuePolicy
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator, Scores, evaluate, standard_rules
from sor_sb3.evaluation.statistics import verdict
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.policies.normalisation import NormalizedPolicy
from sor_sb3.routers import ROUTER_NAMES, make
from tests.market.quote_fixtures import write_recording

th.set_num_threads(1)
ENVS = ("VenueSelect-v1", "OrderSplit-v1")


def untrained(algorithm: Any, env_id: str, market: str = "us_equity", policy: Any = VenuePolicy, seed: int = 0) -> Any:
    """A model whose random weights are large enough for its actions to differ from scenario to scenario."""
    model = algorithm(policy, make_vec_env(env_id, market=market, n_envs=2, seed=0), seed=seed, device="cpu")
    th.manual_seed(seed)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.5 * th.randn_like(parameter))
    return model


def fixed_latency_market() -> SyntheticMarket:
    data = load_market("us_equity").model_dump()
    for venue in data["venues"]:
        venue["latency_sigma"] = 0.0
    data["latency"] = {"congestions_per_hour": 0.0, "tail_probability": 0.0}
    return SyntheticMarket.model_validate(data)


def halting_market() -> SyntheticMarket:
    data = load_market("us_equity").model_dump()
    for venue in data["venues"]:
        venue.update(halts_per_hour=120.0, halt_duration_s=30.0)
    return SyntheticMarket.model_validate(data)


class Recorder:
    """A policy that always takes the first venue and remembers what it was asked."""

    def __init__(self) -> None:
        self.observations: list[np.ndarray] = []
        self.states: list[Any] = []
        self.starts: list[np.ndarray] = []
        self.deterministic: list[bool] = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        self.observations.append(observation.copy())
        self.states.append(state)
        self.starts.append(episode_start.copy())
        self.deterministic.append(deterministic)
        return np.zeros(len(observation), dtype=np.int64), len(self.states)


class MaskRecorder(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Any] = []

    def predict(self, observation, state=None, episode_start=None, deterministic=False, action_masks=None):
        self.masks.append(action_masks)
        if action_masks is None:
            return np.ones((len(observation), 10), np.float32), state
        return np.argmax(action_masks, axis=1), state


# --- pairing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ENVS)
def test_a_policy_against_its_copy_differs_by_exactly_nothing(env_id):
    model = untrained(PPO, env_id)
    result = evaluate({"one": model, "two": model, "rule": "all_in"}, env_id, scenarios=40)
    np.testing.assert_array_equal(result.scores["one"].cost, result.scores["two"].cost)
    difference = result.difference("one", "two")
    assert (difference.mean, difference.ci95) == (0.0, [0.0, 0.0])
    assert difference.p_value == 1.0
    assert verdict(difference) == "no significant difference"
    assert result.difference("one", "rule").mean != 0.0


@pytest.mark.parametrize("env_id", ENVS)
@pytest.mark.parametrize("who", ["all_in_sized", "model"])
def test_batch_equals_one_scenario_at_a_time(env_id, who):
    market = load_market("us_equity")
    policy = untrained(PPO, env_id) if who == "model" else make(who, market, env_id)
    n, seed, rel = 5, 123, 1e-5 if who == "model" else 0.0  # torch rounds by batch size, float32; we do not
    scores = evaluate({"p": policy}, env_id, market, scenarios=n, seed=seed).scores["p"]
    env = gym.make(f"sor_sb3:{env_id}", market=market, data_split="test")
    for j in range(n):
        observation, _ = env.reset(seed=seed + j)
        rewards: list[Any] = []
        ended, info = False, dict[str, Any]()
        while not ended:
            action, _ = policy.predict(observation, deterministic=True)
            observation, reward, ended, truncated, info = env.step(action)
            rewards.append(reward)
            assert not truncated
        assert scores.cost[0, j] == pytest.approx(info["episode_cost"]["shortfall"], rel=rel, abs=0)
        assert scores.cost[0, j] == pytest.approx(-sum(rewards), rel=1e-4, abs=1e-4)
        for measure, values in scores.measures.items():
            assert values[0, j] == pytest.approx(info[measure], rel=rel, abs=0, nan_ok=True)


def test_scenarios_are_aligned_and_addressed_by_seed():
    few = evaluate({"all_in": "all_in"}, market="us_equity", scenarios=6, seed=100).scores["all_in"].cost
    many = evaluate({"pro_rata": "pro_rata", "all_in": "all_in"}, market="us_equity", scenarios=20, seed=97)
    np.testing.assert_array_equal(many.scores["all_in"].cost[:, 3:9], few)


def test_every_policy_meets_the_same_first_observations():
    one, two = Recorder(), Recorder()
    result = evaluate({"one": one, "rule": "all_in", "two": two}, "VenueSelect-v1", "notebook", scenarios=7)
    assert result.n_scenarios == 7
    np.testing.assert_array_equal(one.observations, two.observations)


def test_evaluating_again_gives_the_same_numbers():
    names = ["all_in_sized", "random", "round_robin", "snapshot_oracle"]
    one = evaluate(dict(zip(names, names, strict=True)), market="us_equity", scenarios=10)
    two = evaluate(dict(zip(names, names, strict=True)), market="us_equity", scenarios=10)
    for name in names:
        np.testing.assert_array_equal(one.scores[name].cost, two.scores[name].cost)
        np.testing.assert_array_equal(one.scores[name].latency_ms, two.scores[name].latency_ms)


def test_scoring_order_does_not_matter():
    evaluator = Evaluator("OrderSplit-v1", "us_equity", 10)
    names = ["all_in_sized", "pro_rata", "snapshot_oracle"]
    one = evaluator.evaluate(evaluator.policies(names))
    two = evaluator.evaluate(evaluator.policies(names[::-1]))
    for name in names:
        np.testing.assert_array_equal(one.scores[name].cost, two.scores[name].cost)


def test_splits_share_no_days():
    starts = {s: Evaluator("OrderSplit-v1", "us_equity", 50, 0, s).start() for s in ("train", "validation", "test")}
    rows = np.concatenate(list(starts.values()))
    assert len(np.unique(rows, axis=0)) == 150
    costs = [evaluate({"p": "all_in"}, scenarios=50, seed=0, data_split=s).scores["p"].cost for s in starts]
    assert len(np.intersect1d(costs[0], costs[1])) == len(np.intersect1d(costs[0], costs[2])) == 0


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("market", ["us_equity", "notebook"])
def test_parts_sum_to_the_cost_and_shares_to_one(market):
    names = standard_rules(load_market(market))
    result = evaluate(dict(zip(names, names, strict=True)), market=market, scenarios=12)
    for scores in result.scores.values():
        np.testing.assert_allclose(sum(scores.parts.values()), scores.cost, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(scores.venue_shares.sum(axis=1), 1.0, rtol=1e-12)
        assert (scores.venue_shares >= 0).all()
        assert scores.cost.shape == (1, 12)
        assert all(part.shape == (1, 12) for part in scores.parts.values())


def test_venue_shares_of_a_fixed_venue():
    market = load_market("us_equity")
    fixed = make("best_fixed_venue", market, "VenueSelect-v1", venue="NYSE")
    shares = evaluate({"fixed": fixed}, "VenueSelect-v1", market, scenarios=8).scores["fixed"].venue_shares
    np.testing.assert_array_equal(shares, [[float(n == "NYSE") for n in market.venue_names]])


def test_latency_is_there_and_back_of_each_child():
    market = fixed_latency_market()
    latency_ms = {v.name: v.latency_ms for v in market.venues}
    fixed = {n: make("best_fixed_venue", market, "VenueSelect-v1", venue=n) for n in ("NYSE", "EDGX")}
    result = evaluate(fixed, "VenueSelect-v1", market, scenarios=8)
    for name, scores in result.scores.items():
        expected = 2 * latency_ms[name]
        assert scores.latency_quantiles_ms() == pytest.approx(dict.fromkeys(("p50", "p95", "p99"), expected))
        assert len(scores.latency_ms) <= 8 * market.order.horizon_steps * market.order.waves


def test_latency_quantiles_rise_and_are_none_without_children():
    scores = evaluate({"p": "pro_rata"}, market="us_equity", scenarios=10).scores["p"]
    low, middle, high = scores.latency_quantiles_ms().values()
    assert 0 < low <= middle <= high
    assert low == pytest.approx(np.median(scores.latency_ms))
    nothing = Scores("p", "rule", np.zeros((1, 1)), {}, {}, np.zeros(0), np.ones((1, 2)), np.ones((1, 1), int))
    assert nothing.latency_quantiles_ms() == {"p50": None, "p95": None, "p99": None}


def test_measures_without_meaning_are_none():
    notebook = evaluate({"p": "all_in"}, market="notebook", scenarios=4).scores["p"]
    equity = evaluate({"p": "all_in"}, market="us_equity", scenarios=4).scores["p"]
    for measure in ("slippage_bps", "fee_bps", "fill_rate", "completion"):
        assert notebook.mean(measure) is None
        assert np.isfinite(equity.mean(measure))
    assert 0 < equity.mean("fill_rate") <= 1


@pytest.mark.parametrize("env_id", ENVS)
def test_gap_closed_is_zero_for_the_reference_and_one_for_the_oracle(env_id):
    market = load_market("us_equity")
    names = [market.reference_router, "all_in_sized", market.oracle]
    result = evaluate(dict(zip(names, names, strict=True)), env_id, market, scenarios=40)
    assert result.gap_closed(market.reference_router).mean == pytest.approx(0.0, abs=1e-12)
    assert result.gap_closed(market.oracle).mean == pytest.approx(1.0, abs=1e-12)
    costs = {n: result.cost(n).mean for n in names}
    expected = (costs[names[0]] - costs["all_in_sized"]) / (costs[names[0]] - costs[market.oracle])
    assert result.gap_closed("all_in_sized").mean == pytest.approx(expected)


def test_gap_closed_needs_reference_and_oracle():
    assert evaluate({"p": "all_in"}, market="notebook", scenarios=4).gap_closed("p") is None


def test_names_are_sorted_by_cost_and_filtered_by_kind():
    model = untrained(PPO, "OrderSplit-v1", "notebook")
    policies = {"mine": model, "random": "random", "all_in": "all_in", "snapshot_oracle": "snapshot_oracle"}
    result = evaluate(policies, market="notebook", scenarios=30)
    assert [result.cost(n).mean for n in result.names()] == sorted(result.cost(n).mean for n in policies)
    assert result.names("learned") == ["mine"]
    assert result.names("rule") == ["all_in", "random"]
    assert result.names("oracle") == ["snapshot_oracle"]
    assert set(result.names("rule", "oracle")) == set(policies) - {"mine"}


def test_kind_is_of_the_policy_not_of_its_name():
    market = load_market("notebook")
    policies = {"my name": make("all_in", market), "random": untrained(PPO, "OrderSplit-v1", "notebook")}
    result = evaluate(policies, market=market, scenarios=4)
    assert {n: s.kind for n, s in result.scores.items()} == {"my name": "rule", "random": "learned"}


def test_a_list_is_one_policy_trained_with_several_seeds():
    members = [untrained(PPO, "OrderSplit-v1", "notebook", seed=s) for s in (0, 1, 2)]
    result = evaluate({"ppo": members, "all_in": "all_in"}, market="notebook", scenarios=9)
    scores = result.scores["ppo"]
    assert (scores.n_seeds, scores.cost.shape, scores.venue_shares.shape) == (3, (3, 9), (3, 3))
    assert len(np.unique(scores.cost[:, 0])) == 3
    alone = evaluate({"ppo": members[1]}, market="notebook", scenarios=9).scores["ppo"].cost[0]
    np.testing.assert_array_equal(scores.cost[1], alone)
    expected = (scores.cost - result.scores["all_in"].cost).mean()
    assert result.difference("ppo", "all_in").mean == pytest.approx(expected)


def test_recordings_have_time_blocks_and_other_markets_have_none(tmp_path):
    assert evaluate({"p": "all_in"}, market="notebook", scenarios=4).blocks is None
    path = write_recording(tmp_path / "quotes.parquet", duration_s=7200)
    result = evaluate({"p": "all_in", "q": "pro_rata"}, market=str(path), scenarios=30)
    assert result.blocks.shape == (30,)
    assert result.blocks.dtype == np.int64
    assert 1 < len(np.unique(result.blocks)) <= 30
    assert np.isfinite(result.difference("p", "q").mean)


# --- how a policy is asked ------------------------------------------------------------------------


def test_state_and_episode_starts_are_handed_on():
    recorder = Recorder()
    evaluate({"r": recorder}, "VenueSelect-v1", "notebook", scenarios=3)
    steps = load_market("notebook").order.horizon_steps
    assert recorder.states == [None, *range(1, steps)]
    assert recorder.starts[0].all()
    assert not np.any(recorder.starts[1:])
    assert recorder.deterministic == [True] * steps


def test_masks_go_to_those_that_want_them():
    market, recorder = halting_market(), MaskRecorder()
    scores = evaluate({"r": recorder}, "VenueSelect-v1", market, scenarios=10).scores["r"]
    masks = np.stack(recorder.masks)
    assert masks.shape[1:] == (10, 10) and len(masks) >= market.order.horizon_steps
    assert masks.dtype == bool
    assert masks.any(axis=2).all()
    assert not masks.all()
    assert scores.cost.shape == (1, 10)


def test_no_masks_where_the_env_has_none():
    recorder = MaskRecorder()
    evaluate({"r": recorder}, "OrderSplit-v1", "us_equity", scenarios=3)
    assert set(recorder.masks) == {None} and len(recorder.masks) >= load_market("us_equity").order.horizon_steps


def halted_actions(policy: Any, market: SyntheticMarket, monkeypatch: pytest.MonkeyPatch) -> int:
    """How often a policy's action goes to a venue that is halted while another is open."""
    evaluator = Evaluator("VenueSelect-v1", market, 40)
    wrong, step = [], evaluator.core.step

    def watched(actions):
        wrong.append((~evaluator.core.action_masks()[np.arange(40), actions]).sum())
        return step(actions)

    monkeypatch.setattr(evaluator.core, "step", watched)
    evaluator.score("p", policy)
    return int(np.sum(wrong))


def test_maskable_ppo_never_takes_a_halted_venue(monkeypatch):
    market = halting_market()
    assert halted_actions(untrained(PPO, "VenueSelect-v1", policy="MlpPolicy"), market, monkeypatch) > 0
    assert halted_actions(untrained(MaskablePPO, "VenueSelect-v1", policy="MlpPolicy"), market, monkeypatch) == 0


def test_a_normalised_maskable_ppo_never_takes_a_halted_venue(monkeypatch):
    model = untrained(MaskablePPO, "VenueSelect-v1", policy="MlpPolicy")
    policy = NormalizedPolicy(model, VecNormalize(make_vec_env("VenueSelect-v1", n_envs=1)))
    assert halted_actions(policy, halting_market(), monkeypatch) == 0


def test_recurrent_policies_are_scored():
    model = untrained(RecurrentPPO, "OrderSplit-v1", "notebook", "MlpLstmPolicy")
    result = evaluate({"r": model, "s": model}, market="notebook", scenarios=5)
    assert result.difference("r", "s").mean == 0.0


def test_a_normalised_policy_sees_normalised_rows_and_leaves_the_statistics_alone():
    venv: Any = VecNormalize(make_vec_env("OrderSplit-v1", market="notebook", n_envs=4, seed=0))
    model = A2C("MlpPolicy", venv, seed=0, device="cpu").learn(100)
    mean, count = venv.obs_rms.mean.copy(), venv.obs_rms.count
    rows = Evaluator("OrderSplit-v1", "notebook", 5).start()
    actions, _ = NormalizedPolicy(model, venv).predict(rows, deterministic=True)
    np.testing.assert_array_equal(actions, model.predict(venv.normalize_obs(rows), deterministic=True)[0])
    evaluate({"n": NormalizedPolicy(model, venv)}, market="notebook", scenarios=5)
    np.testing.assert_array_equal(venv.obs_rms.mean, mean)
    assert venv.obs_rms.count == count


@pytest.mark.parametrize("env_id", ENVS)
def test_global_generators_are_left_alone(env_id):
    model = untrained(PPO, env_id, "notebook")
    th.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002
    torch_before, numpy_before = th.get_rng_state(), np.random.get_state()  # noqa: NPY002
    names = standard_rules(load_market("notebook"))
    evaluate({"ppo": model, **dict(zip(names, names, strict=True))}, env_id, "notebook", scenarios=5)
    numpy_after = np.random.get_state()  # noqa: NPY002
    assert th.equal(th.get_rng_state(), torch_before)
    assert numpy_after[2] == numpy_before[2]
    np.testing.assert_array_equal(numpy_after[1], numpy_before[1])


def test_deterministic_repeats_and_stochastic_draws():
    model = untrained(PPO, "VenueSelect-v1", "notebook")

    def costs(deterministic: bool, seed: int = 0) -> np.ndarray:
        th.manual_seed(seed)
        result = evaluate({"p": model}, "VenueSelect-v1", "notebook", scenarios=10, deterministic=deterministic)
        return result.scores["p"].cost

    np.testing.assert_array_equal(costs(True), costs(True, seed=1))
    np.testing.assert_array_equal(costs(False), costs(False))
    assert not np.array_equal(costs(False), costs(True))
    assert not np.array_equal(costs(False), costs(False, seed=1))


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"market": "us_equty"}, "did you mean 'us_equity'"),
        ({"env": "OrderSplt-v1"}, "did you mean 'OrderSplit-v1'"),
        ({"data_split": "tset"}, "data_split 'tset' is unknown"),
    ],
)
def test_unknown_names_are_user_errors(options, message):
    with pytest.raises(UserError, match=message):
        evaluate({"p": "all_in"}, scenarios=3, **options)


def test_unknown_router_is_a_user_error():
    with pytest.raises(UserError, match="did you mean 'pro_rata'"):
        evaluate({"p": "pro_rat"}, market="notebook", scenarios=3)


def test_the_public_name_is_this_function():
    assert sor_sb3.evaluate is evaluate
    assert isinstance(evaluate({"p": "all_in"}, market="notebook", scenarios=3), Evaluation)


def test_standard_rules_end_with_the_oracle():
    rules = standard_rules(load_market("us_equity"), "OrderPlace-v1", ("all",))
    assert rules == [*ROUTER_NAMES, "placement_oracle"]
    assert set(standard_rules(load_market("us_equity"))[:-1]) < set(rules)  # what needs resting orders is left out
    assert "vwap" not in standard_rules(load_market("notebook"))


def test_an_evaluation_prints_costs_and_no_arrays():
    result = evaluate({"a": "pro_rata", "longer": "best_price"}, market="notebook", env="VenueSelect-v1", scenarios=20)
    head, *lines = str(result).splitlines()
    assert head == "VenueSelect-v1 on notebook, 20 test scenarios; cost in notebook units per episode, 95 % interval"
    assert [line.split()[0] for line in lines] == result.names()
    cost = result.cost(result.names()[0])
    assert lines[0].split()[1:] == [f"{cost.mean:.3f}", f"[{cost.ci95_low:.3f},", f"{cost.ci95_high:.3f}]"]
