"""Train one algorithm with one seed in one folder, in the zoo's layout. What a worker process runs.

FOLDER/config.yaml  done.json  best_model.zip  evaluations.npz
FOLDER/ENV.zip  ENV/args.yml  ENV/config.yml  ENV/command.txt  [ENV/vecnormalize.pkl]
FOLDER/checkpoints/ while it trains: a run that is stopped goes on from there, bit for bit.
"""

from __future__ import annotations

import math
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sor_sb3.algorithms.hyperparameters import constructor_arguments, default_hyperparameters, policy_of
from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.callbacks.checkpoint import ExactCheckpointCallback, latest_checkpoint
from sor_sb3.callbacks.evaluation import RoutingEvalCallback, cost_tag
from sor_sb3.callbacks.hparams import HParamCallback
from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv, make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments.config import VALIDATION_SCENARIOS, TrainConfig
from sor_sb3.experiments.folders import (
    CONFIG_FILE,
    DONE_FILE,
    held_digest,
    system_versions,
    write_json,
    write_text,
    write_yaml,
)
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.normalisation import NormalizedPolicy

CHECKPOINT_FOLDER, CHECKPOINTS = "checkpoints", 20  # how many are taken in a run; the last two stay
VALIDATION_SEED = 1
SEED_STRIDE_BITS = 24  # env i of training seed s has seed (s << 24) + i, so training seeds share no market days


def train_config(
    algo: str,
    env: str,
    market: MarketSpec,
    seed: int,
    timesteps: int | None = None,
    n_envs: int | None = None,
    settings: dict[str, Any] | None = None,
) -> TrainConfig:
    """A complete config: defaults of the YAML, overridden by `settings` (``--set``), `n_envs` and `timesteps`.

    Raises:
        UserError: the env or the algorithm is unknown, or they do not fit each other.
    """
    algo = find_algorithm(algo, make_action_adapter(env, market.n_venues).space).name
    hyperparameters = default_hyperparameters(algo, env, market.name)
    settings = settings or {}
    if settings.get("policy", hyperparameters["policy"]) != hyperparameters["policy"]:
        hyperparameters.pop("policy_kwargs", None)  # they are the other policy's
    hyperparameters.update(settings)
    if n_envs is not None:
        hyperparameters["n_envs"] = n_envs
    if timesteps is not None:
        hyperparameters["n_timesteps"] = timesteps
    if hyperparameters.get("n_steps") == "episode":
        hyperparameters["n_steps"] = market.order.horizon_steps
    hyperparameters.setdefault("envs_per_scenario", 1)
    for key in ("n_envs", "n_timesteps", "envs_per_scenario"):
        value = hyperparameters[key]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 1 or value != int(value):
            raise UserError(f"{key} is {value!r}; expected a whole number of at least 1")
        hyperparameters[key] = int(value)
    if "envs_per_scenario" not in settings:  # a default gives way to the number of envs
        hyperparameters["envs_per_scenario"] = math.gcd(hyperparameters["envs_per_scenario"], hyperparameters["n_envs"])
    variance_reduction = bool(hyperparameters.pop("variance_reduction", True))
    return TrainConfig(
        algo=algo,
        env=env.removeprefix("sor_sb3:"),  # type: ignore[arg-type]
        market=market,
        seed=seed,
        timesteps=hyperparameters["n_timesteps"],
        hyperparameters=hyperparameters,
        variance_reduction=variance_reduction,
    )


def make_training_env(config: TrainConfig) -> VecEnv:
    """The training env of a config: native, monitored, normalised if the hyperparameters say so."""
    venv = make_vec_env(
        config.env,
        config.market,
        config.hyperparameters["n_envs"],
        data_split="train",
        variance_reduction=config.variance_reduction,
        envs_per_scenario=config.hyperparameters.get("envs_per_scenario", 1),
    )
    normalize = config.hyperparameters.get("normalize")
    if normalize:
        options = normalize if isinstance(normalize, dict) else {}
        venv = VecNormalize(venv, gamma=config.hyperparameters.get("gamma", 1.0), **options)
    return venv


def make_model(config: TrainConfig, venv: VecEnv, verbose: int = 0) -> Any:
    """The algorithm's object, seeded.

    Raises:
        UserError: the constructor refuses a hyperparameter, or the policy reads halts and would not see them.
    """
    algorithm = find_algorithm(config.algo, venv.action_space).load()
    arguments = constructor_arguments(config.hyperparameters)
    policy = policy_of(config.hyperparameters.get("policy", "MlpPolicy"))
    arguments.setdefault("device", "cpu")
    if getattr(policy, "masked", False) and isinstance(venv, VecNormalize) and venv.norm_obs:
        raise UserError(f"{policy.__name__} reads from raw observations who is halted; set normalize=false")
    try:
        model = algorithm(policy, venv, seed=config.seed, verbose=verbose, **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(f"algorithm '{config.algo}' refuses its settings: {error}; change them with --set") from error
    venv.seed(config.seed << SEED_STRIDE_BITS)
    return model


def check_settings(config: TrainConfig) -> None:
    """Build what a run would train, and drop it: a wrong setting is said before any folder is made.

    Raises:
        UserError: the algorithm cannot be imported, or refuses a hyperparameter.
    """
    make_model(config, make_training_env(config))


def validation_evaluator(env: str, market: MarketSpec, scenarios: int = VALIDATION_SCENARIOS) -> Evaluator:
    """The held-out days that choose: the best checkpoint of a run, the best rule of a comparison."""
    return Evaluator(env, market, scenarios, VALIDATION_SEED, "validation")


class _Progress(BaseCallback):
    """Tells somebody how far training is."""

    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self._report = report

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._report(self.num_timesteps)


def can_resume(config: TrainConfig, folder: Path) -> bool:
    """Whether a folder holds a whole checkpoint of this very run."""
    return held_digest(folder) == config.digest() and latest_checkpoint(folder / CHECKPOINT_FOLDER) is not None


def where_it_goes_on(config: TrainConfig, folder: Path) -> str:
    """In words, for a person who resumes a run."""
    checkpoint = latest_checkpoint(folder / CHECKPOINT_FOLDER) if can_resume(config, folder) else None
    if checkpoint is None:
        return ", from the start: it has no whole checkpoint"
    return f", from step {int(checkpoint.name.partition('_')[0])}"


def train(
    config: TrainConfig,
    folder: Path,
    tensorboard_folder: Path | None = None,
    baselines: Sequence[str] = (),
    baseline_folder: Path | None = None,
    report: Callable[[int], None] | None = None,
    verbose: int = 0,
) -> Any:
    """Train, evaluate as it goes, and leave the run in `folder`. Returns the model.

    Where the folder holds a checkpoint of this run, training goes on from it and ends as if it had never stopped
    (on-policy algorithms; others start over).

    Args:
        config: the run.
        folder: made if it is not there.
        tensorboard_folder: of the learner's event file; None logs nothing.
        baselines: scored once on the validation days, for gap closed and the chart.
        baseline_folder: where their TensorBoard runs go.
        report: called with the timesteps done after every rollout.
        verbose: SB3's.

    Raises:
        UserError: the checkpoint was made with other versions of the software.
    """
    import torch

    torch.set_num_threads(1)
    kept = folder / CHECKPOINT_FOLDER
    resume_from = latest_checkpoint(kept) if can_resume(config, folder) else None
    write_yaml(folder / CONFIG_FILE, {"digest": config.digest(), "config": config.canonical()})
    venv = make_training_env(config)
    model = make_model(config, venv, verbose)
    formats = (["stdout"] if verbose else []) + (["tensorboard"] if tensorboard_folder else [])
    model.set_logger(configure(str(tensorboard_folder) if tensorboard_folder else None, formats))
    evaluator = validation_evaluator(config.env, config.market, config.validation_scenarios)
    evaluation = RoutingEvalCallback(
        evaluator, config.timesteps // (config.evaluations - 1), folder, baselines, baseline_folder
    )
    checkpoint = ExactCheckpointCallback(
        kept, config.timesteps // CHECKPOINTS, system_versions(), [evaluation], resume_from
    )
    callbacks: list[BaseCallback] = [HParamCallback(hparams(config), metrics(evaluator)), evaluation, checkpoint]
    if report is not None:
        callbacks.append(_Progress(report))
    model.learn(config.timesteps, callback=CallbackList(callbacks))
    model.save(folder / f"{config.env}.zip")
    _leave_zoo_files(config, folder, model)
    write_json(
        folder / DONE_FILE,
        {
            "digest": config.digest(),
            "timesteps": model.num_timesteps,
            "seconds": round(checkpoint.seconds, 3),
            "best_validation_cost": evaluation.best_cost,
            "versions": system_versions(),
        },
    )
    shutil.rmtree(kept, ignore_errors=True)
    return model


def hparams(config: TrainConfig) -> dict[str, Any]:
    """What TensorBoard shows as the run's hyperparameters."""
    run = {"algo": config.algo, "env": config.env, "market": config.market.name, "seed": config.seed}
    return {**run, "variance_reduction": config.variance_reduction, **config.hyperparameters}


def metrics(evaluator: Evaluator) -> list[str]:
    """Tags of the charts that TensorBoard shows beside the hyperparameters."""
    return [cost_tag(evaluator), "eval/gap_closed", "eval/mean_reward", "rollout/ep_rew_mean"]


def _leave_zoo_files(config: TrainConfig, folder: Path, model: Any) -> None:
    zoo = folder / config.env
    arguments = {key: value for key, value in config.canonical().items() if key not in ("market", "hyperparameters")}
    write_yaml(zoo / "args.yml", dict(sorted({**arguments, "market": config.market.name}.items())))
    write_yaml(zoo / "config.yml", config.canonical()["hyperparameters"])
    write_text(zoo / "command.txt", shlex.join(sys.orig_argv) + "\n")
    env = model.get_vec_normalize_env()
    if env is not None:
        env.save(str(zoo / "vecnormalize.pkl"))


def load_policy(config: TrainConfig, folder: Path, best: bool = True) -> Any:
    """The policy that a run left: the best on its validation days, or the last.

    Raises:
        UserError: the run is not finished, or its file is damaged.
    """
    file = folder / ("best_model.zip" if best else f"{config.env}.zip")
    if not file.is_file():
        raise UserError(f"{folder} has no {file.name}: the run is not finished; run the same command again")
    algorithm = find_algorithm(config.algo)
    try:
        model = algorithm.load().load(file, device="cpu")
    except Exception as error:
        raise UserError(f"{file} cannot be read ({error}); delete the folder and train again") from error
    statistics = folder / ("best_vecnormalize.pkl" if best else f"{config.env}/vecnormalize.pkl")
    if statistics.is_file():
        venv = RoutingVecEnv(config.env, config.market, 1)
        return NormalizedPolicy(model, VecNormalize.load(str(statistics), venv))
    return model
