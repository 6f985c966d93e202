"""Training runs: every algorithm on every env that it fits, and what a run leaves in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments.config import TrainConfig, train_config
from sor_sb3.experiments.run import (
    SEED_STRIDE_BITS,
    load_policy,
    make_model,
    make_training_env,
    train,
    validation_evaluator,
)
from sor_sb3.market.loading import load_market
from sor_sb3.policies.normalisation import NormalizedPolicy
from tests.market.quote_fixtures import write_recording

th.set_num_threads(1)

ON_POLICY = {"n_steps": 25}
OFF_POLICY = {"learning_starts": 64, "buffer_size": 1000, "batch_size": 16}
TINY: dict[str, dict[str, Any]] = {
    "ppo": {**ON_POLICY, "batch_size": 50, "n_epochs": 2},
    "a2c": ON_POLICY,
    "reinforce": ON_POLICY,
    "sac": OFF_POLICY,
}


def tiny_config(algo: str, env_id: str, market: str = "notebook", timesteps: int = 400, **settings: Any) -> TrainConfig:
    options = {**TINY[algo], **settings}
    config = train_config(algo, env_id, load_market(market), 0, timesteps, 4, options)
    return config.model_copy(update={"validation_scenarios": 4, "evaluations": 3})


def actions_of(policy: Any, config: TrainConfig) -> np.ndarray:
    rows = Evaluator(config.env, config.market, 16, 5, "validation").start()
    return policy.predict(rows, deterministic=True)[0]


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_defaults_work_with_n_envs_one(algo, tmp_path):
    config = tiny_config(algo, "OrderSplit-v1", timesteps=100).model_copy(update={"validation_scenarios": 2})
    config.hyperparameters.update(n_envs=1, envs_per_scenario=1)
    if algo == "reinforce":
        config.hyperparameters["baseline"] = "value"
    assert train(config, tmp_path).num_timesteps >= 100


def test_two_runs_of_one_config_are_identical(tmp_path):
    config = tiny_config("ppo", "OrderSplit-v1", "us_equity")
    models = [train(config, tmp_path / name) for name in "ab"]
    for one, other in zip(models[0].policy.parameters(), models[1].policy.parameters(), strict=True):
        assert th.equal(one, other)
    logs = [np.load(tmp_path / name / "evaluations.npz")["results"] for name in "ab"]
    np.testing.assert_array_equal(*logs)


def test_training_seeds_meet_different_days():
    rows = []
    for seed in (0, 1):
        config = tiny_config("ppo", "OrderSplit-v1", "us_equity").model_copy(update={"seed": seed})
        venv = make_training_env(config)
        venv.seed(seed << SEED_STRIDE_BITS)
        rows.append(venv.reset())
    per_day = config.hyperparameters["envs_per_scenario"]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 8 // per_day


def test_folder_has_the_layout_of_the_zoo(tmp_path):
    config = tiny_config("ppo", "OrderSplit-v1")
    train(config, tmp_path)
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    zoo = {f"OrderSplit-v1/{name}" for name in ("args.yml", "config.yml", "command.txt")}
    assert files == {"OrderSplit-v1.zip", "best_model.zip", "evaluations.npz", "config.yaml", "done.json", *zoo}
    arguments = yaml.safe_load((tmp_path / "OrderSplit-v1" / "args.yml").read_text(encoding="utf-8"))
    assert (arguments["algo"], arguments["env"], arguments["seed"]) == ("ppo", "OrderSplit-v1", 0)
    assert arguments["market"] == "notebook"
    hyperparameters = yaml.safe_load((tmp_path / "OrderSplit-v1" / "config.yml").read_text(encoding="utf-8"))
    assert hyperparameters == config.hyperparameters
    assert (tmp_path / "OrderSplit-v1" / "command.txt").read_text(encoding="utf-8").count("\n") == 1
    with np.load(tmp_path / "evaluations.npz") as log:  # keys and shapes of SB3's EvalCallback
        assert set(log.files) - {"tags", "scalars"} == {"timesteps", "results", "ep_lengths"}
        assert log["scalars"].shape == (*log["timesteps"].shape, *log["tags"].shape)
        assert log["timesteps"].tolist() == [0, 200, 400]
        assert log["results"].shape == log["ep_lengths"].shape == (3, 4)


def test_normalised_runs_keep_their_statistics(tmp_path):
    config = tiny_config("a2c", "OrderSplit-v1", normalize={"norm_reward": False}, policy="MlpPolicy", policy_kwargs={})
    model = train(config, tmp_path)
    last = load_policy(config, tmp_path, best=False)
    assert isinstance(last, NormalizedPolicy)
    assert isinstance(load_policy(config, tmp_path), NormalizedPolicy)
    normalised = NormalizedPolicy(model, model.get_vec_normalize_env())
    np.testing.assert_array_equal(actions_of(last, config), actions_of(normalised, config))


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


EVERY_MARKET = {"eval/latency_p50_ms", "eval/latency_p95_ms", "eval/latency_p99_ms", "eval/gap_closed"}
WITH_FILLS = {"eval/slippage_bps", "eval/fee_bps", "eval/fill_rate"}


@pytest.mark.parametrize(("market", "cost"), [("us_equity", "eval/cost_bps"), ("notebook", "eval/cost")])
def test_tensorboard_shows_learner_and_baselines_in_one_chart(market, cost, tmp_path):
    spec = load_market(market)
    names = [spec.reference_router, "all_in_sized", spec.oracle]
    config = tiny_config("ppo", "OrderSplit-v1", market).model_copy(update={"validation_scenarios": 60})
    train(config, tmp_path, tmp_path / "board" / "learner", names, tmp_path / "board")
    learner = scalars_of(tmp_path / "board" / "learner")
    expected = EVERY_MARKET | {cost} | {f"venue_share/{name}" for name in spec.venue_names}
    assert expected <= set(learner)
    assert ({*learner} & WITH_FILLS) == (WITH_FILLS if market == "us_equity" else set())
    assert {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "time/fps",
        "train/loss",
        "train/value_loss",
    } <= set(learner)
    steps = [step for step, _ in learner[cost]]
    assert steps == [0, 200, 400]
    for name in names:
        baseline = scalars_of(tmp_path / "board" / name)
        assert [step for step, _ in baseline[cost]] == steps
        assert expected <= set(baseline)
    with np.load(tmp_path / "evaluations.npz") as log:
        assert [value for _, value in learner[cost]] == pytest.approx(-log["results"].mean(axis=1), rel=1e-6)


def test_tensorboard_has_the_hyperparameters_with_the_metrics(tmp_path):
    config = tiny_config("ppo", "OrderSplit-v1", normalize={"norm_obs": False})
    train(config, tmp_path, tmp_path / "board")
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    start = HParamsPluginData.FromString(
        events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    ).session_start_info
    shown = {name: value.string_value or value.number_value for name, value in start.hparams.items()}
    assert shown["algo"] == "ppo" and shown["market"] == "notebook"
    assert shown["n_steps"] == 25 and shown["learning_rate"] == config.hyperparameters["learning_rate"]
    assert shown["policy_kwargs"] == str(config.hyperparameters["policy_kwargs"])
    assert set(config.hyperparameters) | {"algo", "env", "market", "seed", "variance_reduction"} == set(shown)
    experiment = HParamsPluginData.FromString(
        events.summary_metadata["_hparams_/experiment"].plugin_data.content
    ).experiment
    metrics = {info.name.tag for info in experiment.metric_infos}
    assert metrics == {"eval/cost", "eval/gap_closed", "eval/mean_reward", "rollout/ep_rew_mean"}
    assert metrics - {"eval/gap_closed"} <= set(events.Tags()["scalars"])  # without an oracle there is no gap


def test_progress_is_reported(tmp_path):
    told: list[int] = []
    train(tiny_config("ppo", "OrderSplit-v1"), tmp_path, report=told.append)
    assert told == [100, 200, 300, 400]


@pytest.mark.parametrize("n_envs", [0, -1, 1.5, True, "many"])
def test_n_envs_must_be_a_whole_number(n_envs):
    with pytest.raises(UserError, match="n_envs is"):
        train_config("ppo", "OrderSplit-v1", load_market("notebook"), 0, settings={"n_envs": n_envs})


def test_a_default_of_envs_per_scenario_gives_way_to_the_number_of_envs():
    market = load_market("us_equity")
    for n_envs, envs_per_scenario in ((256, 8), (12, 4), (7, 1)):
        config = train_config("ppo", "OrderSplit-v1", market, 0, n_envs=n_envs)
        assert config.hyperparameters["envs_per_scenario"] == envs_per_scenario
        reinforce = train_config("reinforce", "OrderSplit-v1", market, 0, n_envs=n_envs).hyperparameters
        assert reinforce["baseline"] == ("scenario" if envs_per_scenario > 1 else "value")


def test_envs_per_scenario_that_a_user_sets_must_fit():
    settings = {"n_envs": 12, "envs_per_scenario": 8}
    config = train_config("ppo", "OrderSplit-v1", load_market("us_equity"), 0, settings=settings)
    with pytest.raises(UserError, match="multiple of envs_per_scenario"):
        make_training_env(config)


@pytest.mark.parametrize("algo", ["reinforce", "recurrentppo", "sac"])
def test_a_critic_is_fitted_for_those_alone_that_have_one_to_fit(algo):
    config = train_config(algo, "OrderSplit-v1", load_market("notebook"), 0, n_envs=4, settings={"critic_updates": 5})
    with pytest.raises(UserError, match=f"critic_updates is 5; expected 0 for {algo}: it is for ppo, a2c, trpo"):
        make_model(config, make_training_env(config))


def test_envs_of_one_scenario_begin_alike_and_are_paid_what_they_cost():
    config = train_config("ppo", "OrderSplit-v1", load_market("us_equity"), 3, n_envs=16)
    venv = make_training_env(config)
    venv.seed(config.seed << SEED_STRIDE_BITS)
    rows = venv.reset().reshape(2, 8, -1)
    np.testing.assert_array_equal(rows, rows[:, :1].repeat(8, axis=1))
    _, rewards, _, _ = venv.step(np.random.default_rng(0).uniform(-1, 1, (16, 10)).astype(np.float32))
    assert abs(rewards.reshape(2, 8).sum(axis=1)).min() > 0.01


def test_digest_tells_configs_apart():
    config = tiny_config("ppo", "OrderSplit-v1")
    assert config.digest() == tiny_config("ppo", "OrderSplit-v1").digest()
    others = [
        tiny_config("ppo", "OrderSplit-v1", gamma=0.9),
        tiny_config("ppo", "VenueSelect-v1"),
        tiny_config("ppo", "OrderSplit-v1", "us_equity"),
        config.model_copy(update={"seed": 1}),
    ]
    assert len({config.digest(), *(o.digest() for o in others)}) == 5


def test_a_config_survives_its_file():
    for market in ("us_equity", "notebook"):
        config = tiny_config("ppo", "OrderSplit-v1", market)
        again = TrainConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.canonical())))
        assert again == config
        assert again.digest() == config.digest()


@pytest.mark.parametrize("settings", [{"no_such_thing": 1}, {"learning_rate": "lin_fast"}, {"policy": "NoPolicy"}])
def test_settings_that_the_algorithm_refuses(settings, tmp_path):
    with pytest.raises(UserError):
        train(tiny_config("ppo", "OrderSplit-v1", **settings), tmp_path / "run")


def test_a_damaged_model_is_a_user_error(tmp_path):
    config = tiny_config("ppo", "OrderSplit-v1")
    (tmp_path / "best_model.zip").write_bytes(b"not a zip")
    with pytest.raises(UserError, match=r"best_model\.zip"):
        load_policy(config, tmp_path)


def test_digest_follows_a_recordings_content_not_its_path(tmp_path):
    for name in ("first", "moved", "other"):
        (tmp_path / name).mkdir()
    first = write_recording(tmp_path / "first" / "a.parquet", seed=1)
    moved = tmp_path / "moved" / "a.parquet"
    moved.write_bytes(first.read_bytes())
    other = write_recording(tmp_path / "other" / "a.parquet", seed=2)
    digests = [train_config("ppo", "OrderSplit-v1", load_market(p), 0).digest() for p in (first, moved, other)]
    assert digests[0] == digests[1] != digests[2]


def test_prose_is_no_part_of_the_digest():
    market = load_market("us_equity")
    config = train_config("ppo", "OrderSplit-v1", market, 0)
    prose = {"description": "other words", "sources": {"fees": "a page"}, "fees_as_of": "yesterday"}
    told = market.model_copy(update=prose)
    assert config.model_copy(update={"market": told}).digest() == config.digest()
    order = market.order.model_copy(update={"step_s": 2.0})
    for change in ({"name": "another"}, {"order": order}, {"venues": market.venues[:3]}, {"oracle": "clairvoyant"}):
        other = config.model_copy(update={"market": market.model_copy(update=change)})
        assert other.digest() != config.digest(), change


def test_normalize_that_cannot_be_is_a_sentence():
    with pytest.raises(UserError, match="normalize"):
        make_training_env(tiny_config("a2c", "OrderSplit-v1", normalize={"foo": 1}, policy="MlpPolicy"))


@pytest.mark.parametrize("best", [True, False])
def test_a_run_without_its_statistics_is_refused(best, tmp_path):
    config = tiny_config("a2c", "OrderSplit-v1", normalize=True, policy="MlpPolicy", policy_kwargs={})
    train(config, tmp_path)
    statistics = tmp_path / ("best_vecnormalize.pkl" if best else "OrderSplit-v1/vecnormalize.pkl")
    statistics.write_bytes(b"no pickle")
    with pytest.raises(UserError, match=rf"{statistics.name} cannot be read"):
        load_policy(config, tmp_path, best)
    statistics.unlink()
    with pytest.raises(UserError, match=rf"has no {statistics.name}"):
        load_policy(config, tmp_path, best)


def test_baselines_that_are_scored_already_are_not_scored_again(tmp_path, monkeypatch):
    config = tiny_config("ppo", "OrderSplit-v1", "us_equity").model_copy(update={"validation_scenarios": 40})
    names = [config.market.reference_router, config.market.oracle]
    evaluator = validation_evaluator(config.env, config.market, 40)
    scored = evaluator.evaluate(evaluator.policies(names))
    train(config, tmp_path / "names", tmp_path / "names" / "learner", names)
    monkeypatch.setattr(Evaluator, "policies", None)
    train(config, tmp_path / "scores", tmp_path / "scores" / "learner", scored)
    curves = [scalars_of(tmp_path / name / "learner")["eval/gap_closed"] for name in ("names", "scores")]
    assert len(curves[0]) == 3 and curves[0] == curves[1]
