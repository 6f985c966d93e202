"""Train one algorithm with one seed in one folder, in the zoo's layout. What a worker process runs.

FOLDER/config.yaml  done.json  best_model.zip  evaluations.npz
FOLDER/ENV.zip  ENV/args.yml  ENV/config.yml  ENV/command.txt  [ENV/vecnormalize.pkl]
FOLDER/checkpoints/ during training: a run that is stopped continues from its last checkpoint, bit for bit.
"""

import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sor_sb3.algorithms.hyperparameters import constructor_arguments, policy_of
from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.algorithms.reinforce import REINFORCE
from sor_sb3.callbacks.checkpoint import ExactCheckpointCallback, latest_checkpoint, write_policy
from sor_sb3.callbacks.evaluation import RoutingEvalCallback, cost_tag
from sor_sb3.callbacks.paired_critic import PairedCriticCallback
from sor_sb3.callbacks.tensorboard import HParamCallback
from sor_sb3.callbacks.tracking import TrackerWriter, tracked
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv, make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator, Scores, standard_rules
from sor_sb3.evaluation.family_evaluator import FamilyEvaluator, family_rules
from sor_sb3.evaluation.results import system_versions
from sor_sb3.experiments.config import VALIDATION_SCENARIOS, TrainConfig
from sor_sb3.experiments.folder import CHECKPOINT_FOLDER, CONFIG_FILE, DONE_FILE, held_digest, locked
from sor_sb3.files import write_json, write_text, write_yaml, writing
from sor_sb3.market.family import MarketFamily
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.normalisation import NormalizedPolicy

CHECKPOINTS = 20  # how many are taken in a run; the last two stay
VALIDATION_SEED = 1
WITH_PAIRED_CRITIC = ("ppo", "a2c", "trpo")  # algorithms that `critic_updates` means something to
SEED_STRIDE_BITS = 24  # env i of training seed s has seed (s << 24) + i, so training seeds share no scenarios


def make_training_env(config: TrainConfig) -> VecEnv:
    """The training env of a config: native, monitored, normalised if the hyperparameters say so."""
    venv = make_vec_env(
        config.env,
        config.market,
        config.hyperparameters["n_envs"],
        data_split="train",
        variance_reduction=config.variance_reduction,
        envs_per_scenario=config.hyperparameters.get("envs_per_scenario", 1),
        risk_aversion=config.hyperparameters.get("risk_aversion", 0.0),
    )
    normalize = config.hyperparameters.get("normalize")
    if normalize:
        options = normalize if isinstance(normalize, dict) else {}
        try:
            venv = VecNormalize(venv, gamma=config.hyperparameters.get("gamma", 1.0), **options)
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"normalize is {normalize!r}: {error}; give true, or VecNormalize's options") from None
    return venv


def make_model(config: TrainConfig, venv: VecEnv, verbose: int = 0) -> Any:
    """The algorithm's object, seeded; a UserError where it refuses a hyperparameter or its policy the observations."""
    algorithm = find_algorithm(config.algo, venv.action_space).load()
    arguments = constructor_arguments(config.hyperparameters)
    policy = policy_of(config.hyperparameters.get("policy", "MlpPolicy"))
    arguments.setdefault("device", "cpu")
    per_scenario = config.hyperparameters.get("envs_per_scenario", 1)
    if per_scenario > 1 and issubclass(algorithm, REINFORCE):
        arguments["rollout_buffer_kwargs"] = {"envs_per_scenario": per_scenario}
    fitted = config.hyperparameters.get("critic_updates", 0)
    if fitted and config.algo not in WITH_PAIRED_CRITIC:
        expected = f"expected 0 for {config.algo}: it is for {', '.join(WITH_PAIRED_CRITIC)}"
        raise UserError(f"critic_updates is {fitted}; {expected}")
    if getattr(policy, "masked", False) and isinstance(venv, VecNormalize) and venv.norm_obs:
        raise UserError(f"{policy.__name__} reads from raw observations who is halted; set normalize=false")
    try:
        model = algorithm(policy, venv, seed=config.seed, verbose=verbose, **arguments)
    except (TypeError, ValueError, AssertionError, RuntimeError, MemoryError) as error:
        raise UserError(f"algorithm '{config.algo}' refuses its settings: {error}; change them with --set") from error
    venv.seed(config.seed << SEED_STRIDE_BITS)
    return model


def learning_callbacks(config: TrainConfig) -> list[PairedCriticCallback]:
    """What a run's settings want to learn beside the algorithm: its critic, where ``critic_updates`` is above 0."""
    settings = config.hyperparameters
    if not settings.get("critic_updates"):
        return []
    updates, power = settings["critic_updates"], settings.get("spread_power", 0.0)
    return [PairedCriticCallback(settings.get("envs_per_scenario", 1), updates, spread_power=power)]


def check_settings(config: TrainConfig) -> None:
    """Build what a run would train, and drop it: a wrong setting is a UserError before a folder is made."""
    make_model(config, make_training_env(config))


def validation_evaluator(env: str, market: Any, scenarios: int = VALIDATION_SCENARIOS) -> Any:
    """The held-out scenarios that choose: the best checkpoint of a run, the best rule of a comparison.

    An `Evaluator` of a market, or a `FamilyEvaluator` of a family.
    """
    kind = FamilyEvaluator if isinstance(market, MarketFamily) else Evaluator
    return kind(env, market, scenarios, VALIDATION_SEED, "validation")


def validation_rules(env: str, market: MarketSpec | MarketFamily) -> list[str]:
    """The rules that a run's chart shows beside the learner; of a market the oracle too, last."""
    if isinstance(market, MarketFamily):
        return family_rules(market, env, "validation", VALIDATION_SEED)
    return standard_rules(market, env)


class _Progress(BaseCallback):
    """Tells `report` after every rollout how far training is."""

    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self._report = report

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._report(self.num_timesteps)


def _checkpoint_of(config: TrainConfig, folder: Path) -> Path | None:
    """The last whole checkpoint of this very run."""
    return latest_checkpoint(folder / CHECKPOINT_FOLDER) if held_digest(folder) == config.digest() else None


def can_resume(config: TrainConfig, folder: Path) -> bool:
    """Whether a folder holds a whole checkpoint of this very run."""
    return _checkpoint_of(config, folder) is not None


def resume_point(config: TrainConfig, folder: Path) -> str:
    """In words, for a person, from where a run is resumed."""
    checkpoint = _checkpoint_of(config, folder)
    if checkpoint is None:
        return ", from the start: the run has no whole checkpoint"
    return f", from step {int(checkpoint.name.partition('_')[0])}"


def train(
    config: TrainConfig,
    folder: Path,
    tensorboard_folder: Path | None = None,
    baselines: Sequence[str] | Evaluation = (),
    baseline_folder: Path | None = None,
    report: Callable[[int], None] | None = None,
    verbose: int = 0,
    each: Callable[[int, Scores], None] | None = None,
) -> Any:
    """Train, evaluate from time to time, and leave the run in `folder`. Returns the model.

    Where the folder holds a checkpoint of this run, training continues from the checkpoint and ends as if the run had
    never been stopped (on-policy algorithms; others start over).

    The learner's event file goes to `tensorboard_folder`, if given. Gap closed and the chart need `baselines`: names of
    rules and oracles, or their scores on validation scenarios; their TensorBoard runs go to `baseline_folder`. `report`
    is called with the timesteps done after every rollout, `each` with the timesteps and the scores of every evaluation;
    what it raises ends the training. The tracker that the environment names, if any, gets what SB3 logs and the run's
    files (:mod:`sor_sb3.callbacks.tracking`). Raises UserError: the checkpoint is of other software
    versions, or the folder is in use or cannot be written.
    """
    torch.set_num_threads(1)
    with writing(str(folder), folder), locked(folder), tracked(folder) as tracker:
        resume_from = _checkpoint_of(config, folder)
        venv = make_training_env(config)
        model = make_model(config, venv, verbose)
        write_yaml(folder / CONFIG_FILE, {"digest": config.digest(), "config": config.canonical()})
        formats = (["stdout"] if verbose else []) + (["tensorboard"] if tensorboard_folder else [])
        model.set_logger(configure(str(tensorboard_folder) if tensorboard_folder else None, formats))
        if tracker is not None:
            model.logger.output_formats.append(tracker)
        evaluator = validation_evaluator(config.env, config.market, config.validation_scenarios)
        evaluate_every, keep_every = config.timesteps // (config.evaluations - 1), config.timesteps // CHECKPOINTS
        evaluation = RoutingEvalCallback(evaluator, evaluate_every, folder, baselines, baseline_folder, each)
        kept = folder / CHECKPOINT_FOLDER
        learning = learning_callbacks(config)
        stateful = [evaluation, *learning]
        checkpoint = ExactCheckpointCallback(kept, keep_every, system_versions(), stateful, resume_from)
        shown = {"algo": config.algo, "env": config.env, "market": config.market.name, "seed": config.seed}
        hparams = {**shown, "variance_reduction": config.variance_reduction, **config.hyperparameters}
        metrics = [cost_tag(config.market), "eval/gap_closed", "eval/mean_reward", "rollout/ep_rew_mean"]
        callbacks: list[BaseCallback] = [HParamCallback(hparams, metrics), *learning, evaluation, checkpoint]
        if report is not None:
            callbacks.append(_Progress(report))
        model.learn(config.timesteps, callback=CallbackList(callbacks))
        _leave_run(config, folder, model, checkpoint.seconds, evaluation.best_cost)
        if tracker is not None:
            _keep(config, folder, tracker)
    return model


def _leave_run(config: TrainConfig, folder: Path, model: Any, seconds: float, best_cost: float) -> None:
    """Files of a finished run; ``done.json`` last but for the checkpoints, which go."""
    zoo, data = folder / config.env, config.canonical()
    write_policy(model, folder / f"{config.env}.zip", zoo / "vecnormalize.pkl")
    arguments = {key: value for key, value in data.items() if key not in ("kind", "market", "hyperparameters")}
    write_yaml(zoo / "args.yml", dict(sorted({**arguments, "market": config.market.name}.items())))
    write_yaml(zoo / "config.yml", data["hyperparameters"])
    write_text(zoo / "command.txt", shlex.join(sys.orig_argv) + "\n")
    done = {"digest": config.digest(), "timesteps": model.num_timesteps, "seconds": round(seconds, 3)}
    write_json(folder / DONE_FILE, {**done, "best_validation_cost": best_cost, "versions": system_versions()})
    shutil.rmtree(folder / CHECKPOINT_FOLDER, ignore_errors=True)


def _keep(config: TrainConfig, folder: Path, tracker: TrackerWriter) -> None:
    """A finished run's files, for its tracker."""
    zoo = config.env
    tracker.keep("config", folder, [CONFIG_FILE, *(f"{zoo}/{name}" for name in ("args.yml", "config.yml"))])
    tracker.keep("results", folder, [DONE_FILE, "evaluations.npz"])
    model = ("best_model.zip", "best_vecnormalize.pkl", f"{zoo}.zip", f"{zoo}/vecnormalize.pkl")
    tracker.keep("model", folder, model)


def load_policy(config: TrainConfig, folder: Path, best: bool = True, market: MarketSpec | None = None) -> Any:
    """The policy that a run left: the best on the run's validation scenarios, or the last.

    It is made for the venues of `market`, where one is given: any, if the run's policy has no marks.

    Raises UserError: the run is not finished, a file of the run is damaged, or the policy is bound to other venues.
    """
    file = folder / ("best_model.zip" if best else f"{config.env}.zip")
    if not file.is_file():
        raise UserError(f"{folder} has no {file.name}: the run is not finished; run the same command again")
    statistics = folder / ("best_vecnormalize.pkl" if best else f"{config.env}/vecnormalize.pkl")
    if config.hyperparameters.get("normalize") and not statistics.is_file():
        raise UserError(f"{folder} has no {statistics.name}, which the run's policy needs; train again")
    algorithm = find_algorithm(config.algo).load()
    spaces = _spaces_of(config, folder, market) if market is not None else {}
    try:
        model = algorithm.load(file, device="cpu", custom_objects=spaces)
        file = statistics
        if statistics.is_file():
            venv = RoutingVecEnv(config.env, market or config.market, 1)
            return NormalizedPolicy(model, VecNormalize.load(str(statistics), venv))
    except Exception as error:
        raise UserError(f"{file} cannot be read ({error}); delete the folder and train again") from error
    return model


def _spaces_of(config: TrainConfig, folder: Path, market: MarketSpec) -> dict[str, Any]:
    """The spaces of a market where they are not those of the run; a UserError where the run's policy does not fit."""
    trained = config.market
    if market.n_venues == trained.n_venues and not isinstance(trained, MarketFamily):
        return {}
    if (config.hyperparameters.get("policy_kwargs") or {}).get("marks", True):
        bound = f"{folder} was trained on the {trained.n_venues} venues of {trained.name}"
        remedy = "train on a family of markets, or with --set 'policy_kwargs={marks: false}'"
        raise UserError(f"{bound}, and {market.name} has {market.n_venues}; {remedy}")
    core = RoutingVecEnv(config.env, market, 1).core
    return {"observation_space": core.observation_space, "action_space": core.action_space}
