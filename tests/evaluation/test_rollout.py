"""One loop plays every policy: asked as SB3 asks, stepped once a decision, refused where it does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

import sor_sb3
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator, evaluate
from sor_sb3.evaluation.rollout import rollout
from sor_sb3.market.loading import load_market
from sor_sb3.policies.normalisation import NormalizedPolicy, normalisation_of
from sor_sb3.routers import Router, make
from sor_sb3.simulator.views import Observed, Truth

th.set_num_threads(1)
SPLIT, SELECT = "OrderSplit-v1", "VenueSelect-v1"


class Answers:
    """A policy that gives what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return self.answer(observation) if callable(self.answer) else self.answer


def one_wave() -> Any:
    """us_equity, where a decision is one env step."""
    market = load_market("us_equity")
    return market.model_copy(update={"order": market.order.model_copy(update={"waves": 1})})


# --------------------------------------------------------------------------------------------- the loop


def test_a_rollout_with_an_empty_body_plays_the_episodes_to_their_end():
    evaluator, rule = Evaluator(SPLIT, "us_equity", 5), make("pro_rata", "us_equity")
    steps = [decision.step for decision in rollout(evaluator.core, rule, evaluator.start())]
    order = load_market("us_equity").order
    assert steps == list(range(len(steps)))
    assert order.horizon_steps <= len(steps) <= order.horizon_steps * order.waves
    assert (Truth(evaluator.core.simulator).remaining_shares == 0.0).all()
    costs = evaluator.core.simulator.ledger()["shortfall"]
    np.testing.assert_array_equal(costs, evaluator.score("p", rule).cost[0])


def test_an_order_that_is_done_costs_nothing_while_others_go_on():
    evaluator, costs = Evaluator(SPLIT, "us_equity", 8), []
    observations = evaluator.start()
    truth = Truth(evaluator.core.simulator)
    for decision in rollout(evaluator.core, make("round_robin", "us_equity"), observations):
        done = truth.remaining_shares == 0.0
        before = evaluator.core.simulator.ledger()["shortfall"]
        decision.take()
        np.testing.assert_array_equal(evaluator.core.simulator.ledger()["shortfall"][done], before[done])
        costs.append(int(done.sum()))
    assert max(costs) > 0  # in some env step some were done and others not


def test_a_step_is_taken_once_whoever_takes_it():
    market = one_wave()
    evaluator, rule = Evaluator(SPLIT, market, 3), make("pro_rata", market)
    for decision in rollout(evaluator.core, rule, evaluator.start()):
        assert (Observed(evaluator.core.simulator).step == decision.step).all()
        if decision.step % 2:
            after = decision.take()
            assert (Observed(evaluator.core.simulator).step == decision.step + 1).all()
            assert decision.take() is after


def test_a_rollout_that_is_left_steps_no_further():
    market = one_wave()
    evaluator, rule = Evaluator(SPLIT, market, 3), make("pro_rata", market)
    for decision in rollout(evaluator.core, rule, evaluator.start()):
        if decision.step == 4:
            break
    assert (Observed(evaluator.core.simulator).step == 4).all()


def test_asking_what_if_changes_nothing():
    model = model_of(RecurrentPPO, make_vec_env(SPLIT, market="notebook", n_envs=2, seed=0), "MlpLstmPolicy")
    evaluator = Evaluator(SPLIT, "notebook", 4)
    expected = evaluator.score("p", model).cost[0]
    for decision in rollout(evaluator.core, model, evaluator.start()):
        np.testing.assert_array_equal(decision.ask(decision.observations), decision.actions)
        decision.ask(np.zeros_like(decision.observations))
    np.testing.assert_array_equal(evaluator.core.simulator.ledger()["shortfall"], expected)


def test_a_rollout_may_start_in_the_middle_of_episodes():
    model = model_of(RecurrentPPO, make_vec_env(SPLIT, market="notebook", n_envs=2, seed=0), "MlpLstmPolicy")
    evaluator = Evaluator(SPLIT, "notebook", 4)
    expected = evaluator.score("p", model).cost[0]
    rows, state = evaluator.start(), None
    for decision in rollout(evaluator.core, model, rows):
        if decision.step == 3:
            rows, state = decision.observations, decision.state
            break
    for decision in rollout(evaluator.core, model, rows, state=state, first_step=3):
        assert not decision.first.any()
    np.testing.assert_array_equal(evaluator.core.simulator.ledger()["shortfall"], expected)


# --------------------------------------------------------------------------------------------- bad answers


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, r"policy 'mine' returned a NoneType; expected \(actions, state\)"),
        (np.ones((6, 3)), r"policy 'mine' returned a ndarray; expected \(actions, state\)"),
        ((np.ones((6, 3)), None, None), r"policy 'mine' returned a tuple; expected"),
        ((None, None), r"policy 'mine': OrderSplit-v1: actions are of type object; expected numbers"),
        ((np.ones(3), None), r"policy 'mine': OrderSplit-v1: actions are \(3,\); expected 6 rows of 3"),
        ((np.ones((5, 3)), None), r"policy 'mine': OrderSplit-v1: actions are \(5, 3\); expected 6 rows of 3"),
        ((np.full((6, 3), np.nan), None), r"policy 'mine': .* of row 0 for venue .* is nan; expected a finite number"),
        (([[1.0], [1.0, 2.0]], None), r"policy 'mine': actions are no array of numbers"),
    ],
)
def test_a_bad_answer_is_refused_by_the_policys_name(answer, said):
    with pytest.raises(UserError, match=said) as caught:
        evaluate({"good": "pro_rata", "mine": Answers(answer)}, SPLIT, "notebook", scenarios=6)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("market", ["us_equity", "crypto", "dark", "notebook"])
def test_a_policy_that_answers_nan_is_refused_and_not_waited_for(market):
    k = load_market(market).n_venues
    with pytest.raises(UserError, match="is nan; expected a finite number"):
        evaluate({"p": Answers(lambda rows: (np.full((len(rows), k), np.nan), None))}, SPLIT, market, scenarios=4)


@pytest.mark.parametrize("action", [-1, 3, 0.5])
def test_a_venue_that_is_none_is_refused(action):
    policy = Answers(lambda rows: (np.full(len(rows), action), None))
    with pytest.raises(
        UserError, match=f"policy 'p': VenueSelect-v1: the action of row 0 is {action}; expected a whole"
    ):
        evaluate({"p": policy}, SELECT, "notebook", scenarios=4)


def test_a_policy_that_ignores_the_masks_is_scored():
    market = load_market("us_equity")
    halts = {"halts_per_hour": 120.0, "halt_duration_s": 30.0}
    market = market.model_copy(update={"venues": tuple(v.model_copy(update=halts) for v in market.venues)})
    first = Answers(lambda rows: (np.zeros(len(rows), np.int64), None))
    assert np.isfinite(evaluate({"p": first}, SELECT, market, scenarios=10).scores["p"].cost).all()


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ({}, "policies is empty"),
        (["pro_rata"], "policies is a list; expected a mapping"),
        ({"p": []}, "policy 'p' is an empty list"),
        ({"p": 3}, "policy 'p' is a int; expected a router's name, or something with SB3's predict"),
        ({"p": None}, "policy 'p' is a NoneType"),
        ({"p": ["pro_rata", {}]}, "policy 'p' is a dict"),
    ],
)
def test_what_is_no_policy_is_refused(policies, said):
    with pytest.raises(UserError, match=said):
        evaluate(policies, market="notebook", scenarios=3)


# --------------------------------------------------------------------------------------------- scored as trained


def normalised(algorithm: Any, env_id: str, policy: str = "MlpPolicy", **options: Any) -> Any:
    """A model under VecNormalize whose statistics are those of a game."""
    venv = VecNormalize(make_vec_env(env_id, market="us_equity", n_envs=8, seed=0), **options)
    venv.reset()
    for _ in range(20):
        venv.step(np.zeros((8, *(venv.action_space.shape or ())), venv.action_space.dtype))
    return model_of(algorithm, venv, policy)


def model_of(algorithm: Any, venv: Any, policy: str = "MlpPolicy") -> Any:
    small = {"lstm_hidden_size": 8} if algorithm is RecurrentPPO else {}
    return algorithm(policy, venv, n_steps=20, seed=0, device="cpu", policy_kwargs=small)


@pytest.mark.parametrize(
    ("algorithm", "env_id", "policy"),
    [
        (PPO, SPLIT, "MlpPolicy"),
        (A2C, "OrderExecute-v1", "MlpPolicy"),
        (MaskablePPO, SELECT, "MlpPolicy"),
        (RecurrentPPO, SPLIT, "MlpLstmPolicy"),
    ],
)
def test_a_model_is_scored_with_the_statistics_that_it_carries(algorithm, env_id, policy, tmp_path):
    model = normalised(algorithm, env_id, policy)
    venv = model.get_vec_normalize_env()
    mean, count = venv.obs_rms.mean.copy(), venv.obs_rms.count
    result = evaluate({"as_is": model, "wrapped": NormalizedPolicy(model, venv)}, env_id, "us_equity", scenarios=20)
    np.testing.assert_array_equal(result.scores["as_is"].cost, result.scores["wrapped"].cost)
    np.testing.assert_array_equal(venv.obs_rms.mean, mean)
    assert venv.obs_rms.count == count
    model.save(tmp_path / "model.zip")  # which drops the statistics: then the network costs something else
    raw = evaluate({"raw": algorithm.load(tmp_path / "model.zip")}, env_id, "us_equity", scenarios=20)
    assert not np.array_equal(raw.scores["raw"].cost, result.scores["wrapped"].cost)


def test_which_normalisation_a_model_carries():
    model = normalised(PPO, SPLIT)
    venv = model.get_vec_normalize_env()
    assert normalisation_of(model) is venv and normalisation_of(NormalizedPolicy(model, venv)) is venv
    assert normalisation_of(make("pro_rata", "us_equity")) is None and normalisation_of(object()) is None
    assert normalisation_of(PPO("MlpPolicy", make_vec_env(SPLIT, market="notebook"))) is None
    assert normalisation_of(normalised(PPO, SPLIT, norm_obs=False)) is None


def test_two_layers_of_statistics_are_refused():
    venv = VecNormalize(VecNormalize(make_vec_env(SPLIT, market="notebook", n_envs=2)))
    with pytest.raises(UserError, match="two layers of VecNormalize"):
        evaluate({"p": PPO("MlpPolicy", venv)}, SPLIT, "notebook", scenarios=3)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_model_of_another_market_or_env_is_refused_in_one_sentence(wrap):
    other = normalised(PPO, SELECT) if wrap else PPO("MlpPolicy", make_vec_env(SELECT, market="us_equity"))
    with pytest.raises(
        UserError, match=r"policy 'ppo' was trained with observations .*; expected .* market 'notebook'"
    ):
        evaluate({"ppo": other}, SELECT, "notebook", scenarios=3)
    with pytest.raises(
        UserError, match=r"policy 'ppo' was trained with actions Discrete\(10\); expected Box.*OrderSplit"
    ):
        evaluate({"ppo": other}, SPLIT, "us_equity", scenarios=3)
    stacked = PPO("MlpPolicy", VecFrameStack(make_vec_env(SPLIT, market="notebook", n_envs=2), 3))
    with pytest.raises(UserError, match="policy 'ppo' was trained with observations"):
        evaluate({"ppo": stacked}, SPLIT, "notebook", scenarios=3)


def test_statistics_of_another_market_are_refused_in_one_sentence():
    model = PPO("MlpPolicy", make_vec_env(SPLIT, market="notebook"))
    policy = NormalizedPolicy(model, VecNormalize(make_vec_env(SPLIT, market="us_equity")))
    with pytest.raises(
        UserError, match=r"policy 'ppo' was trained with observations .*; expected .* market 'notebook'"
    ):
        evaluate({"ppo": policy}, SPLIT, "notebook", scenarios=3)


def test_the_old_place_of_the_normalised_policy_works_with_a_warning():
    with pytest.warns(DeprecationWarning, match=r"sor_sb3\.policies\.normalisation\.NormalizedPolicy"):
        from sor_sb3.evaluation.policies import NormalizedPolicy as old
    assert old is NormalizedPolicy


# --------------------------------------------------------------------------------------------- kinds and own rules


class FirstVenue(Router):
    """A user's rule."""

    name = "first_venue"

    def weights(self, view):
        weights = np.zeros(view.open.shape)
        weights[:, 0] = 1.0
        return weights


def one_hot(rows: np.ndarray) -> tuple[np.ndarray, None]:
    return np.tile([1.0, 0.0, 0.0], (len(rows), 1)), None


def test_a_users_own_rule_is_a_rule_and_a_model_is_learned():
    class Trained(Answers):
        kind = "learned"

    market = load_market("notebook")
    policies = {
        "router": FirstVenue(market),
        "plain": Answers(one_hot),
        "said": Trained(one_hot),
        "ppo": PPO("MlpPolicy", make_vec_env(SPLIT, market=market)),
        "network": PPO("MlpPolicy", make_vec_env(SPLIT, market=market)).policy,
        "wrapped": NormalizedPolicy(Answers(one_hot), VecNormalize(make_vec_env(SPLIT, market=market))),
        "oracle": "snapshot_oracle",
    }
    result = evaluate(policies, market=market, scenarios=4)
    kinds = {name: scores.kind for name, scores in result.scores.items()}
    assert kinds == {
        "router": "rule",
        "plain": "rule",
        "said": "learned",
        "ppo": "learned",
        "network": "learned",
        "wrapped": "learned",
        "oracle": "oracle",
    }


def test_a_kind_that_is_none_is_refused():
    policy: Any = Answers(one_hot)
    policy.kind = "rool"
    with pytest.raises(UserError, match="kind of Answers is 'rool'; expected one of learned, rule, oracle"):
        evaluate({"p": policy}, market="notebook", scenarios=3)


def test_the_public_names():
    assert sor_sb3.register_router is sor_sb3.routers.register_router
