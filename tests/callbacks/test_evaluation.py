"""The evaluation callback: when it runs, what it keeps and logs, and that training does not notice it."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.logger import configure
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sor_sb3.algorithms.policies import VenuePolicy
from sor_sb3.callbacks.evaluation import RoutingEvalCallback, cost_tag
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.evaluation.evaluator import Evaluator

th.set_num_threads(1)


def evaluator(scenarios: int = 10) -> Evaluator:
    return Evaluator("OrderSplit-v1", "notebook", scenarios, 1, "validation")


def make_model(algorithm=PPO, normalize=False):
    venv = make_vec_env("OrderSplit-v1", market="notebook", n_envs=8)
    venv = VecNormalize(venv) if normalize else venv
    options = {
        PPO: {"n_steps": 50, "batch_size": 200, "n_epochs": 2, "learning_rate": 3e-3},
        A2C: {"n_steps": 10},
        SAC: {"learning_starts": 100, "batch_size": 16, "buffer_size": 1000},
    }[algorithm]
    model = algorithm("MlpPolicy" if algorithm is SAC else VenuePolicy, venv, seed=3, device="cpu", **options)
    venv.seed(3)
    return model


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (200, [0, 200, 400, 600, 800]),
        (250, [0, 256, 512, 768, 800]),
        (800, [0, 800]),
        (10_000, [0, 800]),
    ],
)
def test_evaluates_first_every_so_often_and_last(every, expected, tmp_path):
    make_model().learn(800, callback=RoutingEvalCallback(evaluator(), every, tmp_path))
    with np.load(tmp_path / "evaluations.npz") as log:
        assert log["timesteps"].tolist() == expected
        assert log["results"].shape == log["ep_lengths"].shape == (len(expected), 10)
        assert (log["ep_lengths"] == 50).all()


def test_keeps_the_model_of_lowest_validation_cost(tmp_path):
    callback = RoutingEvalCallback(evaluator(), 400, tmp_path)
    make_model().learn(2000, callback=callback)
    with np.load(tmp_path / "evaluations.npz") as log:
        costs = -log["results"].mean(axis=1)
        best_row = -log["results"][int(np.argmin(costs))]
    kept = evaluator().score("best", PPO.load(tmp_path / "best_model.zip", device="cpu"))
    np.testing.assert_array_equal(kept.cost[0], best_row)
    assert callback.best_cost == costs.min() == kept.cost.mean()


def test_a_worse_model_does_not_replace_a_better_one(tmp_path, monkeypatch):
    judge = evaluator()
    callback = RoutingEvalCallback(judge, 400, tmp_path)
    score, made_up = judge.score, iter([3.0, 1.0, 2.0, 1.0, 5.0])
    saved = []

    def scored(name, policy):
        scores = score(name, policy)
        scores.cost[:] = next(made_up)
        return scores

    monkeypatch.setattr(judge, "score", scored)
    model = make_model()
    monkeypatch.setattr(model, "save", lambda path: saved.append(model.num_timesteps))
    model.learn(1600, callback=callback)
    assert saved == [0, 400]
    assert callback.best_cost == 1.0


@pytest.mark.parametrize("algorithm", [PPO, A2C, SAC])
@pytest.mark.parametrize("normalize", [False, True], ids=["plain", "normalised"])
def test_training_does_not_notice_it(algorithm, normalize, tmp_path):
    steps = 240 if algorithm is SAC else 800
    alone = make_model(algorithm, normalize).learn(steps)
    callback = RoutingEvalCallback(evaluator(), 200, tmp_path, ["random", "snapshot_oracle"], tmp_path / "baselines")
    watched = make_model(algorithm, normalize).learn(steps, callback=callback)
    one, other = alone.policy.state_dict(), watched.policy.state_dict()
    assert one.keys() == other.keys()
    for key in one:
        assert th.equal(one[key], other[key]), key
    if normalize:
        np.testing.assert_array_equal(
            alone.get_vec_normalize_env().obs_rms.mean, watched.get_vec_normalize_env().obs_rms.mean
        )


def test_statistics_of_the_best_model_are_kept_with_it(tmp_path):
    model = make_model(A2C, normalize=True)
    model.learn(800, callback=RoutingEvalCallback(evaluator(), 400, tmp_path))
    loaded = VecNormalize.load(
        str(tmp_path / "best_vecnormalize.pkl"), make_vec_env("OrderSplit-v1", market="notebook")
    )
    assert isinstance(loaded.obs_rms, RunningMeanStd)
    assert loaded.obs_rms.mean.shape == model.observation_space.shape


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    callback = RoutingEvalCallback(evaluator(), 400)
    make_model().learn(800, callback=callback)
    assert callback.best_cost < np.inf
    assert list(tmp_path.iterdir()) == []


def scalars_of(folder) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_learner_and_baselines_share_tags_and_steps(tmp_path):
    judge = evaluator()
    callback = RoutingEvalCallback(judge, 400, None, ["random", "all_in", "snapshot_oracle"], tmp_path)
    model = make_model()
    model.set_logger(configure(str(tmp_path / "learner"), ["tensorboard"]))
    model.learn(800, callback=callback)
    model.logger.close()
    learner = scalars_of(tmp_path / "learner")
    assert cost_tag(judge.market) == "eval/cost"
    for name, gap in (("random", 0.0), ("snapshot_oracle", 1.0)):
        baseline = scalars_of(tmp_path / name)
        assert set(baseline) <= set(learner)
        steps = [step for step, _ in learner["eval/cost"]]
        assert steps == [0, 400, 800]
        for tag in ("eval/cost", "eval/gap_closed", "eval/latency_p50_ms", "venue_share/A"):
            assert [step for step, _ in baseline[tag]] == steps, tag
        assert len({value for _, value in baseline["eval/cost"]}) == 1
        assert baseline["eval/gap_closed"][0][1] == pytest.approx(gap, abs=1e-6)
    for name, gap in (("all_in", 0.0), ("snapshot_oracle", 1.0)):  # from the cheapest of the rules
        assert scalars_of(tmp_path / name)["eval/gap_closed_from_best_rule"][0][1] == pytest.approx(gap, abs=1e-6)
    assert len(learner["eval/gap_closed_from_best_rule"]) == 3
    assert [-v for _, v in learner["eval/mean_reward"]] == [v for _, v in learner["eval/cost"]]
    assert {v for _, v in learner["eval/mean_ep_length"]} == {50.0}


WAVES = """
order: {quantity_shares: 1000, horizon_steps: 4, step_s: 1, waves: 2, limit: sweep}
venues:
  - {name: A, take_fee_bps: 0.3, offset_bps: 1, size_shares: 100, latency_ms: 0.2}
  - {name: B, take_fee_bps: 0.1, offset_bps: 1, size_shares: 400, latency_ms: 0.3}
quotes: {level_profile: [1]}
"""


def test_an_episodes_length_counts_its_waves(tmp_path):
    """Where nobody holds much, children come back, and a decision has a second wave; the file says how many."""
    (tmp_path / "waves.yaml").write_text(WAVES)
    venv = make_vec_env("OrderSplit-v1", market=tmp_path / "waves.yaml", n_envs=4)
    model = PPO(VenuePolicy, venv, n_steps=8, learning_rate=0.0, seed=0)
    judge = Evaluator("OrderSplit-v1", str(tmp_path / "waves.yaml"), 20, 1, "validation")
    model.learn(32, callback=RoutingEvalCallback(judge, 32, tmp_path / "run"))
    played = judge.score("learner", model)
    with np.load(tmp_path / "run" / "evaluations.npz") as log:
        np.testing.assert_array_equal(log["ep_lengths"][-1], played.env_steps[0])
    assert played.env_steps.min() >= 4
    assert 4 < played.env_steps.mean() and played.env_steps.max() <= 8
