"""A config is the experiment: frozen, complete, hashed. Paths and display flags are not part of it."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sor_sb3.market.spec import MarketSpec

EnvId = Literal["VenueSelect-v0", "OrderSplit-v0", "OrderExecute-v0"]
VALIDATION_SCENARIOS = 500
TEST_SEED = 10_000


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def canonical(self) -> dict[str, Any]:
        """The config as plain data, for YAML and JSON."""
        return json.loads(self.model_dump_json())

    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 16 hexadecimal digits; of a recording its content counts, not its path."""
        data = self.canonical()
        for path in ("quotes_file", "trades_file"):
            data.get("market", {}).pop(path, None)
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Learner(_Config):
    """An algorithm and how it is trained, seeds apart.

    Attributes:
        hyperparameters: zoo keys, complete: what the YAML gave and what the user set.
    """

    algo: str
    timesteps: Annotated[int, Field(ge=1)]
    hyperparameters: dict[str, Any]
    variance_reduction: bool = True


class TrainConfig(Learner):
    """One training run.

    Attributes:
        validation_scenarios: held-out days of the split "validation" that choose the best checkpoint.
        evaluations: how often during training they are run, first and last included.
    """

    env: EnvId
    market: Annotated[MarketSpec, Field(discriminator="model")]
    seed: Annotated[int, Field(ge=0)]
    validation_scenarios: Annotated[int, Field(ge=2)] = VALIDATION_SCENARIOS
    evaluations: Annotated[int, Field(ge=2)] = 21


class CompareConfig(_Config):
    """Several algorithms, several training seeds each, against every rule on the same test scenarios."""

    market: Annotated[MarketSpec, Field(discriminator="model")]
    env: EnvId
    learners: Annotated[tuple[Learner, ...], Field(min_length=1)]
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
