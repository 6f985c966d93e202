"""During training: score the learner on held-out scenarios, keep the best model, and log it beside every baseline.

Evaluation draws nothing from the generators that training uses: scenarios have numbers of their own, and policies take
their mode.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, configure

from sor_sb3.callbacks.checkpoint import write_policy
from sor_sb3.callbacks.tensorboard import layout, log_pictures, tensorboard_writer
from sor_sb3.envs.core import FINAL_REFUSED
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluation, Evaluator, Scores
from sor_sb3.files import write_bytes
from sor_sb3.market.family import MarketFamily
from sor_sb3.market.spec import MarketSpec
from sor_sb3.simulator.random import FINAL

FIGURE_EVERY = 5  # evaluations: to draw one takes as long as to score the policy
_STATE = ("best_cost", "n_calls", "_next", "_last", "_timesteps", "_costs", "_lengths", "_scalars")


def cost_tag(market: MarketSpec | MarketFamily) -> str:
    """The tag of the chart that shows the learner against the baselines."""
    return "eval/cost_bps" if market.cost_unit == "bps" else "eval/cost"


def gaps_closed(baselines: Evaluation | None, scores: Scores) -> dict[str, float | None]:
    """Gap closed from the reference rule, and from the cheapest rule of the `baselines`, by tag."""
    if baselines is None:
        return {}
    with_these = replace(baselines, scores={**baselines.scores, scores.name: scores})
    starts = {"eval/gap_closed": baselines.market.reference_router}
    if rules := baselines.names("rule"):
        starts["eval/gap_closed_from_best_rule"] = rules[0]
    found = {tag: with_these.gap_closed(scores.name, start) for tag, start in starts.items()}
    return {tag: None if estimate is None else estimate.mean for tag, estimate in found.items()}


def scalars(market: MarketSpec, scores: Scores, gaps: Mapping[str, float | None]) -> dict[str, float]:
    """TensorBoard scalars of one policy's scores, by tag, and its `gaps`; measures without meaning are left out."""
    found: dict[str, float | None] = {
        cost_tag(market): float(scores.cost.mean()),
        **gaps,
        **{f"eval/{measure}": scores.mean(measure) for measure in scores.measures},
        **{f"eval/latency_{name}_ms": value for name, value in scores.latency_quantiles_ms().items()},
    }
    shares = zip(market.venue_names, scores.venue_shares.mean(axis=0), strict=True)
    found.update({f"venue_share/{name}": float(share) for name, share in shares})
    return {tag: value for tag, value in found.items() if value is not None}


class RoutingEvalCallback(BaseCallback):
    """Evaluate on fixed held-out scenarios at step 0, every `every` timesteps, and at the end.

    Logs SB3's ``eval/mean_reward`` and ``eval/mean_ep_length``, and beside them cost, slippage, latency quantiles,
    fees, fill rate, gap closed (from the reference and from the best rule) and venue shares, on scenarios of the
    `evaluator` (data split "validation").
    ``best_model.zip`` and ``evaluations.npz`` (SB3's arrays, and `scalars` by evaluation and by `tags`) go to `folder`,
    if given. `baselines` are names of rules and oracles,
    scored once, or their scores on the same scenarios; each writes the same tags as a TensorBoard run of its own under
    `baseline_folder`, if given, so that one chart shows them all. `each` is called with the timesteps and the scores of
    every evaluation, last of all.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        every: int,
        folder: Path | None = None,
        baselines: Sequence[str] | Evaluation = (),
        baseline_folder: Path | None = None,
        each: Callable[[int, Scores], None] | None = None,
    ) -> None:
        super().__init__()
        if evaluator.data_split == FINAL:
            raise UserError(FINAL_REFUSED)
        self.each = each
        self.evaluator, self.every, self.folder = evaluator, max(every, 1), folder
        self.baseline_folder = baseline_folder
        self.baseline_names = [] if isinstance(baselines, Evaluation) else list(baselines)
        self.baselines = baselines if isinstance(baselines, Evaluation) else None
        self.best_cost, self._next, self._last = np.inf, 0, -1
        self._timesteps: list[int] = []
        self._costs: list[np.ndarray] = []
        self._lengths: list[np.ndarray] = []
        self._scalars: list[dict[str, float]] = []
        self._loggers: dict[str, Logger] = {}

    def _on_training_start(self) -> None:
        if self.baseline_names and self.baselines is None:
            self.baselines = self.evaluator.evaluate(self.evaluator.policies(self.baseline_names))
        if self.baseline_folder is not None and self.baselines is not None:
            for name in self.baselines.scores:
                self._loggers[name] = configure(str(self.baseline_folder / name), ["tensorboard"])
        writer = tensorboard_writer(self.logger)
        if writer is not None:
            writer.add_custom_scalars(layout(self.evaluator.market, cost_tag(self.evaluator.market)))
        if not self._timesteps:  # else training continues from a checkpoint, which has this evaluation
            self._evaluate()

    def get_state(self) -> dict[str, Any]:
        """What an exact resume needs."""
        return {name: getattr(self, name) for name in _STATE}

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_state` gave, before training starts."""
        vars(self).update(state)

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next:
            self._evaluate()
        return True

    def _on_training_end(self) -> None:
        if self._last != self.num_timesteps:
            self._evaluate()
        for logger in self._loggers.values():
            logger.close()

    def _record(self, logger: Logger, scores: Scores) -> dict[str, float]:
        found = scalars(self.evaluator.market, scores, gaps_closed(self.baselines, scores))
        for tag, value in found.items():
            logger.record(tag, value)
        return found

    def _evaluate(self) -> None:
        self._last, self._next = self.num_timesteps, self.num_timesteps + self.every
        scores = self.evaluator.score("learner", self.model)
        self._scalars.append(self._record(self.logger, scores))
        cost = float(scores.cost.mean())
        self.logger.record("eval/mean_reward", -cost)
        self.logger.record("eval/mean_ep_length", float(scores.env_steps.mean()))
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        log_pictures(self.logger, self.evaluator.market, scores, len(self._timesteps) % FIGURE_EVERY == 0)
        self.logger.dump(self.num_timesteps)
        for name, logger in self._loggers.items():
            assert self.baselines is not None
            self._record(logger, self.baselines.scores[name])
            logger.dump(self.num_timesteps)
        self._keep(cost, scores)
        if self.each is not None:
            self.each(self.num_timesteps, scores)

    def _keep(self, cost: float, scores: Scores) -> None:
        self._timesteps.append(self.num_timesteps)
        self._costs.append(scores.cost[0])
        self._lengths.append(scores.env_steps[0])
        better = cost < self.best_cost
        self.best_cost = min(cost, self.best_cost)
        if self.folder is None:
            return
        if better:
            write_policy(self.model, self.folder / "best_model.zip", self.folder / "best_vecnormalize.pkl")
        log = io.BytesIO()
        results, lengths = -np.stack(self._costs), np.stack(self._lengths)
        tags = list(dict.fromkeys(tag for found in self._scalars for tag in found))
        values = np.array([[found.get(tag, np.nan) for tag in tags] for found in self._scalars])
        timesteps = np.array(self._timesteps)
        np.savez(log, timesteps=timesteps, results=results, ep_lengths=lengths, tags=np.array(tags), scalars=values)
        write_bytes(self.folder / "evaluations.npz", log.getvalue())
