"""A config is the experiment: frozen, complete, hashed. Paths, prose and display flags are not part of the hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from sor_sb3.algorithms.hyperparameters import complete_hyperparameters
from sor_sb3.algorithms.registry import find_algorithm
from sor_sb3.envs.action_adapters import FIRST_MARKET_IDS, make_action_adapter, of_the_first_market
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import standard_rules
from sor_sb3.market.family import MarketFamily
from sor_sb3.market.spec import MarketSpec


def _of_this_market(env_id: Any) -> Any:
    if env_id in FIRST_MARKET_IDS:
        raise ValueError(of_the_first_market(env_id))
    return env_id


EnvId = Annotated[
    Literal["VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1", "OrderPlace-v1"], BeforeValidator(_of_this_market)
]
VALIDATION_SCENARIOS = 500
TEST_SEED = 10_000


def digest_of(data: Any) -> str:
    """SHA-256 of the canonical JSON of plain data, 16 hexadecimal digits."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def canonical(self) -> dict[str, Any]:
        """The config as plain data, for YAML and JSON."""
        return json.loads(self.model_dump_json())

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 16 hexadecimal digits, of what a result depends on."""
        data = self.canonical()
        if "market" in data:
            data["market"] = self.market.without_prose()  # type: ignore[attr-defined]
        if "markets" in data:
            data["markets"] = [market.without_prose() for market in self.markets]  # type: ignore[attr-defined]
        return digest_of(data)


class Learner(_Config):
    """An algorithm and how it is trained, seeds apart."""

    algo: str
    timesteps: Annotated[int, Field(ge=1)]
    hyperparameters: dict[str, Any]  # zoo keys, complete: what the YAML gave and what the user set
    variance_reduction: bool = True


class TrainConfig(Learner):
    """One training run. Scenarios of the data split "validation" choose the best checkpoint."""

    kind: Literal["train"] = "train"
    env: EnvId
    market: Annotated[MarketSpec | MarketFamily, Field(discriminator="model")]
    seed: Annotated[int, Field(ge=0)]
    validation_scenarios: Annotated[int, Field(ge=2)] = VALIDATION_SCENARIOS
    evaluations: Annotated[int, Field(ge=2)] = 21  # during training, first and last included


class CompareConfig(_Config):
    """Several algorithms, several training seeds each, against every rule on the same test scenarios.

    Without `learners` it is rules alone.
    """

    kind: Literal["compare"] = "compare"
    market: Annotated[MarketSpec, Field(discriminator="model")]
    env: EnvId
    learners: tuple[Learner, ...]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    scenarios: Annotated[int, Field(ge=2)]
    test_seed: int = TEST_SEED
    routers: tuple[str, ...]

    @property
    def runs(self) -> tuple[TrainConfig, ...]:
        """Every training run: each learner with each seed."""
        return tuple(
            TrainConfig(**learner.model_dump(), env=self.env, market=self.market, seed=seed)
            for learner in self.learners
            for seed in self.seeds
        )


class Skipped(_Config):
    """What a grid leaves out of a market and env, and why: an algorithm, or (None) all of it."""

    market: str
    env: str
    algo: str | None
    reason: str


class GridConfig(_Config):
    """Comparisons that are made together: a cell a market and env."""

    kind: Literal["grid"] = "grid"
    cells: Annotated[tuple[CompareConfig, ...], Field(min_length=1)]
    skipped: tuple[Skipped, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the cells' digests, 16 hexadecimal digits."""
        return digest_of([cell.digest() for cell in self.cells])


class TuneConfig(_Config):
    """A search for settings: an algorithm's hyperparameters, or a rule's constants, over several markets and seeds.

    How many trials there are is not part of the config: a search may be made longer.
    """

    kind: Literal["tune"] = "tune"
    algo: str  # of a learner, or a rule's name
    env: EnvId
    markets: Annotated[tuple[Annotated[MarketSpec, Field(discriminator="model")], ...], Field(min_length=1)]
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    hyperparameters: dict[str, Any]  # zoo keys, from which the search starts; empty for a rule
    space: Annotated[dict[str, str], Field(min_length=1)]  # by dotted key, as `--space` writes it
    start: dict[str, Any]  # of the keys in `space`, what the first trial has
    validation_scenarios: Annotated[int, Field(ge=2)] = VALIDATION_SCENARIOS
    evaluations: Annotated[int, Field(ge=2)] = 11  # during a run, first and last included


def train_config(
    algo: str,
    env: str,
    market: MarketSpec | MarketFamily,
    seed: int,
    timesteps: int | None = None,
    n_envs: int | None = None,
    settings: dict[str, Any] | None = None,
    defaults: dict[str, Any] | None = None,
) -> TrainConfig:
    """A complete config: `defaults`, overridden by `settings` (``--set``), `n_envs` and `timesteps`.

    Where no `defaults` are given, those of the package's YAML are taken. Raises UserError: the env or the algorithm is
    unknown, or they do not fit each other.
    """
    algo = find_algorithm(algo, make_action_adapter(env, market.n_venues).space).name
    hyperparameters = complete_hyperparameters(algo, env, market, settings or {}, n_envs, timesteps, defaults)
    variance_reduction = hyperparameters.pop("variance_reduction", True)
    return TrainConfig(
        algo=algo,
        env=env.removeprefix("sor_sb3:"),  # type: ignore[arg-type]
        market=market,
        seed=seed,
        timesteps=hyperparameters["n_timesteps"],
        hyperparameters=hyperparameters,
        variance_reduction=variance_reduction,
    )


def compare_config(
    market: MarketSpec,
    env: str = "OrderSplit-v1",
    algos: Sequence[str] = ("reinforce", "a2c", "ppo"),
    seeds: int = 5,
    first_seed: int = 0,
    timesteps: int | None = None,
    n_envs: int | None = None,
    scenarios: int = 1000,
    settings: dict[str, Any] | None = None,
    defaults: Mapping[str, dict[str, Any]] | None = None,
    rules: Sequence[str] = ("standard",),
) -> CompareConfig:
    """A complete config of a comparison, with `seeds` training seeds from `first_seed`; else as `train_config`.

    `rules` are names of rules or of groups of them (`chosen_rules`); without `algos` they are compared alone.
    `defaults` are by the algorithm's name. Raises UserError: an algorithm is unknown or does not fit, a setting is of
    none, or a number is out of range.
    """
    if not algos and (timesteps is not None or n_envs is not None or settings or defaults):
        raise UserError("--algos none trains nothing; leave out --timesteps, --n-envs, --set and --hyperparams")
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}; expected at least 1")
    if scenarios < 2:
        raise UserError(f"--scenarios is {scenarios}; expected at least 2, for an interval")
    names = dict.fromkeys(find_algorithm(a).name for a in algos)
    given = {find_algorithm(a).name: values for a, values in (defaults or {}).items()}
    if unused := [name for name in given if name not in names]:
        raise UserError(f"--hyperparams is given for {', '.join(unused)}, which --algos does not name; name it there")
    runs = [train_config(algo, env, market, first_seed, timesteps, n_envs, settings, given.get(algo)) for algo in names]
    env = make_action_adapter(env, market.n_venues).env_id
    return CompareConfig(
        market=market,
        env=env,  # type: ignore[arg-type]
        learners=tuple(Learner(**run.model_dump(include=set(Learner.model_fields))) for run in runs),
        seeds=tuple(range(first_seed, first_seed + seeds)),
        scenarios=scenarios,
        routers=tuple(standard_rules(market, env, rules)),
    )
