"""Simulated moments: parameters for which a simulated market's moments are the recorded ones.

Method of simulated moments (McFadden 1989, Econometrica 57; Duffie and Singleton 1993), weighted by how well each
moment is known, with the same random numbers at every try. Gauss-Newton with Levenberg's damping in the logarithms of
the parameters, and Broyden's update of the Jacobian between two that are computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from sor_sb3.calibration.intervals import Estimate
from sor_sb3.calibration.moments import moments, resampled
from sor_sb3.evaluation.true_quotes import QuotePaths, simulated_quotes
from sor_sb3.market.spec import SyntheticMarket

LEAST_BLOCKS, REPLICAS = 48, 4  # simulated blocks: at least so many, else so many times those recorded
SEED = 20_000
STEP = 0.15  # of a logarithm, for derivatives
LARGEST_MOVE = 0.8  # of a logarithm, in one step
TRIES, CYCLES = 8, 2
FLOOR = 0.04  # no moment is taken to be known better: the model is not so good
HEAVY = {"stale choice": 3.0, "best ask unchanged": 3.0}  # what routing lives on counts more
BOUNDS: dict[str, tuple[float, float]] = {
    "offset_bps": (1e-3, 1e3),
    "quote_delay_s": (0.05, 300.0),
    "offset_fast_sd": (0.05, 1.8),
    "offset_slow_sd": (0.02, 1.8),
    "volatility_bps_per_sqrt_s": (1e-3, 1e3),
    "volatility_log_sd": (0.05, 1.2),
    "volatility_half_life_s": (5.0, 3600.0),
    "drift_sd_bps_per_s": (1e-4, 50.0),
    "fast_half_life_s": (0.3, 20.0),
    "slow_half_life_s": (2.0, 1200.0),
    "size_fast_sd": (0.02, 2.0),
    "size_slow_sd": (0.02, 2.0),
    "offset_factor": (1.0, 6.0),
    "volatility_factor": (1.0, 6.0),
    "duration_s": (20.0, 1800.0),
}
"""Fields that are fitted, and where they are looked for."""

Data = dict[str, Any]


def _owner(data: Data, path: str) -> tuple[Data, str]:
    """The mapping that holds the field at a dotted path, and the field's name; names of venues may hold dots."""
    before, _, field = path.rpartition(".")
    if before.startswith("venues."):
        return next(venue for venue in data["venues"] if venue["name"] == before.removeprefix("venues.")), field
    return (data.setdefault(before, {}) if before else data), field


def with_value(data: Data, path: str, value: float) -> None:
    """Put a number into the plain data of a market, by its dotted path."""
    owner, field = _owner(data, path)
    owner[field] = value


def value_of(data: Data, path: str) -> float:
    """The number at a dotted path."""
    owner, field = _owner(data, path)
    return float(owner[field])


def simulated(data: Data, blocks: int, like: QuotePaths, seed: int = SEED) -> QuotePaths:
    """Quotes of a market of this plain data, in blocks as long as the recording's."""
    market = SyntheticMarket.model_validate(data)
    return simulated_quotes(market, blocks, seed, like.ask_bps.shape[1] * like.grid_s, like.grid_s, "train")


def fitted_paths(data: Data) -> list[str]:
    """The parameters that moments decide."""
    venues = [f"venues.{v['name']}.{field}" for v in data["venues"] for field in ("offset_bps", "quote_delay_s")]
    speeds = [f"{speed}_{what}" for speed in ("fast", "slow") for what in ("half_life_s",)]
    quotes = [f"quotes.{field}" for field in (*speeds, *(f"{w}_{v}_sd" for w in ("offset", "size") for v in ("fast", "slow")))]
    fields = ("volatility_bps_per_sqrt_s", "volatility_log_sd", "volatility_half_life_s", "drift_sd_bps_per_s")
    stress = ["stress.offset_factor", "stress.volatility_factor", "stress.duration_s"]
    return [*venues, *quotes, *(f"price.{field}" for field in fields), *stress]


@dataclass(frozen=True)
class Fit:
    """Parameters found, with the covariance of their logarithms, and every moment as recorded and as simulated."""

    paths: tuple[str, ...]
    logs: np.ndarray
    covariance: np.ndarray
    recorded: dict[str, float]
    simulated: dict[str, float]
    sd: dict[str, float]
    tries: int

    def estimates(self, blocks: int) -> dict[str, Estimate]:
        """The parameters with their intervals, from so many recorded blocks."""
        halves = -special.stdtrit(blocks - 1, 0.025) * np.sqrt(np.diagonal(self.covariance))
        how = "simulated moments of quotes"
        return {
            path: Estimate(path, float(np.exp(x)), float(np.exp(x - half)), float(np.exp(x + half)), how)
            for path, x, half in zip(self.paths, self.logs, halves, strict=True)
        }


def moment_covariance(paths: QuotePaths) -> tuple[dict[str, float], np.ndarray]:
    """The recorded moments, and their covariance by the jackknife that leaves out a block at a time."""
    value, everyone = moments(paths), np.arange(paths.n)
    without = [list(moments(resampled(paths, np.delete(everyone, i))).values()) for i in everyone]
    apart = np.array(without) - np.mean(without, axis=0)
    return value, (paths.n - 1) / paths.n * np.nan_to_num(apart.T @ apart)


class _Problem:
    """Residuals of a market's moments, in units of what each is known to."""

    def __init__(self, data: Data, recorded: QuotePaths, paths: list[str]) -> None:
        self.data, self.like, self.paths = data, recorded, paths
        value, self.covariance = moment_covariance(recorded)
        self.names, self.target = list(value), np.array(list(value.values()))
        self.blocks = max(REPLICAS * recorded.n if recorded.n * REPLICAS < 160 else recorded.n, LEAST_BLOCKS)
        sd = np.sqrt(np.diagonal(self.covariance) + FLOOR**2)
        names = recorded.venue_names
        heavy = np.array([HEAVY.get(name, len(names) ** -0.5 if name.endswith(names) else 1.0) for name in self.names])
        self.weight = np.where(np.isfinite(self.target), heavy / sd, 0.0)
        bounds = [BOUNDS[path.rpartition(".")[2]] for path in paths]
        self.low, self.high = np.log(np.array(bounds)).T
        self.tries = 0

    def simulated(self, logs: np.ndarray) -> np.ndarray:
        """Moments at a point."""
        self.tries += 1
        for path, x in zip(self.paths, logs, strict=True):
            with_value(self.data, path, float(np.exp(x)))
        found = moments(simulated(self.data, self.blocks, self.like))
        return np.array([found[name] for name in self.names])

    def residuals(self, found: np.ndarray) -> np.ndarray:
        """Weighted; a moment that either side lacks counts nothing."""
        return np.where(np.isfinite(found), (found - np.nan_to_num(self.target)) * self.weight, 0.0)

    def jacobian(self, logs: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Of the weighted residuals, by one-sided differences."""
        columns = []
        for i in range(len(logs)):
            step = STEP if logs[i] + STEP <= self.high[i] else -STEP
            moved = logs.copy()
            moved[i] += step
            columns.append((self.residuals(self.simulated(moved)) - at) / step)
        return np.array(columns).T


def fit_moments(data: Data, recorded: QuotePaths, progress: Callable[[str, int, int], None] | None = None) -> Fit:
    """Fit the parameters of `fitted_paths`, from the values that the market's plain data has; the data get the fit.

    Args:
        data: a synthetic market; changed in place.
        recorded: the quotes that it is fitted to.
        progress: called with what is done, how much of it, and of how much.
    """
    paths = fitted_paths(data)
    problem = _Problem(data, recorded, paths)
    logs = np.clip(np.log([max(value_of(data, path), 1e-9) for path in paths]), problem.low, problem.high)
    found = problem.simulated(logs)
    residuals = problem.residuals(found)
    total = CYCLES * (len(paths) + TRIES) + 1
    jacobian = np.zeros((len(residuals), len(paths)))
    for _ in range(CYCLES):
        jacobian, damping = problem.jacobian(logs, residuals), 1e-2
        for _ in range(TRIES):
            if progress is not None:
                progress("simulated moments", problem.tries, total)
            move = _damped_step(jacobian, residuals, damping)
            moved = np.clip(logs + np.clip(move, -LARGEST_MOVE, LARGEST_MOVE), problem.low, problem.high)
            there = problem.simulated(moved)
            new, step = problem.residuals(there), moved - logs
            if not step.any():
                break
            jacobian = jacobian + np.outer(new - residuals - jacobian @ step, step) / (step @ step)
            if new @ new < residuals @ residuals:
                logs, residuals, found, damping = moved, new, there, damping / 4.0
            else:
                damping *= 8.0
    problem.simulated(logs)  # which puts the fit into the data
    covariance = _sandwich(problem, jacobian, recorded.n)
    sd = np.sqrt(np.diagonal(problem.covariance))
    as_dict = lambda values: dict(zip(problem.names, np.asarray(values).tolist(), strict=True))  # noqa: E731
    return Fit(tuple(paths), logs, covariance, as_dict(problem.target), as_dict(found), as_dict(sd), problem.tries)


def _damped_step(jacobian: np.ndarray, residuals: np.ndarray, damping: float) -> np.ndarray:
    normal = jacobian.T @ jacobian
    scale = np.diag(np.maximum(np.diagonal(normal), 1e-6 * max(float(np.trace(normal)), 1e-12)))
    return np.asarray(np.linalg.solve(normal + damping * scale, -jacobian.T @ residuals))


def _sandwich(problem: _Problem, jacobian: np.ndarray, recorded_blocks: int) -> np.ndarray:
    """Covariance of the logarithms: ``(J'J)^-1 J' W O W J (J'J)^-1 (1 + 1 / replicas)``, O of the recorded moments."""
    inverse = np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-8)
    weighted = problem.covariance * np.outer(problem.weight, problem.weight)
    simulated_too = 1.0 + recorded_blocks / problem.blocks
    return np.asarray(simulated_too * inverse @ jacobian.T @ weighted @ jacobian @ inverse)
