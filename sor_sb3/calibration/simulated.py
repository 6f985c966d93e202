"""Simulated moments: parameters for which a simulated market's moments are the recorded ones.

Method of simulated moments (McFadden 1989, Econometrica 57; Duffie and Singleton 1993), weighted by how well each
moment is known, with the same random numbers at every try. Gauss-Newton with Levenberg's damping in the logarithms of
the parameters, and Broyden's update of the Jacobian between two that are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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
TRIES, CYCLES = 6, 3  # with a Jacobian, and how many Jacobians from each start
FLOOR = 0.04  # no moment is taken to be known better: the model is not so good
PRIOR_SD = 0.7  # of a logarithm: where moments say nothing of a parameter, the closed form it began from stays
HEAVY = {"stale choice": 3.0, "best ask unchanged": 5.0}  # what routing lives on counts more
BOUNDS: dict[str, tuple[float, float]] = {
    "offset_bps": (1e-3, 1e3),
    "quote_delay_s": (0.05, 300.0),
    "offset_fast_sd": (0.05, 1.8),
    "offset_slow_sd": (0.02, 1.8),
    "join_probability": (0.005, 0.9),
    "volatility_bps_per_sqrt_s": (1e-3, 1e3),
    "volatility_log_sd": (0.05, 1.2),
    "volatility_half_life_s": (5.0, 3600.0),
    "drift_sd_bps_per_s": (1e-4, 50.0),
    "jumps_per_hour": (1.0, 600.0),
    "jump_sd_bps": (0.5, 100.0),
    "fast_half_life_s": (0.3, 20.0),
    "slow_half_life_s": (2.0, 1200.0),
    "size_fast_half_life_s": (0.3, 20.0),
    "size_slow_half_life_s": (2.0, 1200.0),
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
    of_quotes = (
        "fast_half_life_s",
        "slow_half_life_s",
        "size_fast_half_life_s",
        "size_slow_half_life_s",
        "offset_fast_sd",
        "offset_slow_sd",
        "join_probability",
        "size_fast_sd",
        "size_slow_sd",
    )
    quotes = [f"quotes.{field}" for field in of_quotes]
    fields = [f"volatility_{field}" for field in ("bps_per_sqrt_s", "log_sd", "half_life_s")]
    fields += ["drift_sd_bps_per_s", "jumps_per_hour", "jump_sd_bps"]
    stress = ["stress.offset_factor", "stress.volatility_factor", "stress.duration_s"]
    return [*venues, *quotes, *(f"price.{field}" for field in fields), *stress]


def bounds_of(paths: Sequence[str]) -> np.ndarray:
    """Where parameters are looked for, the lower and the upper ends of logarithms, (2, P)."""
    return np.asarray(np.log([BOUNDS[path.rpartition(".")[2]] for path in paths]).T)


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

    def drawn(self, n: int, seed: int) -> np.ndarray:
        """Logarithms of the parameters (n, P) from their normal distribution, no further than they are looked for."""
        draws = np.random.default_rng(seed).multivariate_normal(self.logs, self.covariance, n, method="eigh")
        return np.clip(draws, *bounds_of(self.paths))


def moment_covariance(paths: QuotePaths) -> tuple[dict[str, float], np.ndarray]:
    """The recorded moments, and their covariance by the jackknife that leaves out a block at a time."""
    value, everyone = moments(paths), np.arange(paths.n)
    without = [list(moments(resampled(paths, np.delete(everyone, i))).values()) for i in everyone]
    apart = np.array(without) - np.mean(without, axis=0)
    return value, (paths.n - 1) / paths.n * np.nan_to_num(apart.T @ apart)


class _Point(NamedTuple):
    """A point of the search, its moments, and where it came from."""

    logs: np.ndarray
    found: np.ndarray
    origin: np.ndarray


class _Problem:
    """Residuals of a market's moments, in units of what each is known to."""

    def __init__(self, data: Data, recorded: QuotePaths, paths: list[str]) -> None:
        self.data, self.like, self.paths = data, recorded, paths
        value, self.covariance = moment_covariance(recorded)
        self.names, self.target = list(value), np.array(list(value.values()))
        self.blocks = max(REPLICAS * recorded.n if recorded.n * REPLICAS < 160 else recorded.n, LEAST_BLOCKS)
        sd = np.sqrt(np.diagonal(self.covariance) + FLOOR**2)
        names = recorded.venue_names
        few = lambda name: len(names) ** -0.5 if name.endswith(names) and not name.startswith("at best") else 1.0  # noqa: E731
        heavy = np.array([HEAVY.get(name, few(name)) for name in self.names])
        self.weight = np.where(np.isfinite(self.target), heavy / sd, 0.0)
        self.low, self.high = bounds_of(paths)
        self.origin = np.zeros(len(paths))
        self.tries = 0

    def begin(self) -> np.ndarray:
        """Begin where the data are: the point that parameters stay near without a reason to leave it."""
        values = [max(value_of(self.data, path), 1e-9) for path in self.paths]
        self.origin = np.clip(np.log(values), self.low, self.high)
        return self.origin

    def simulated(self, logs: np.ndarray) -> np.ndarray:
        """Moments at a point."""
        self.tries += 1
        for path, x in zip(self.paths, logs, strict=True):
            with_value(self.data, path, float(np.exp(x)))
        found = moments(simulated(self.data, self.blocks, self.like))
        return np.array([found[name] for name in self.names])

    def residuals(self, logs: np.ndarray, found: np.ndarray) -> np.ndarray:
        """Weighted, a moment that either side lacks counting nothing; then how far parameters are from the start."""
        apart = np.where(np.isfinite(found), (found - np.nan_to_num(self.target)) * self.weight, 0.0)
        return np.concatenate([apart, (logs - self.origin) / PRIOR_SD])

    def residuals_of(self, point: _Point) -> np.ndarray:
        """Of a point, from where it came."""
        self.origin = point.origin
        return self.residuals(point.logs, point.found)

    def jacobian(self, logs: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Of the residuals, by one-sided differences."""
        columns = []
        for i in range(len(logs)):
            step = STEP if logs[i] + STEP <= self.high[i] else -STEP
            moved = logs.copy()
            moved[i] += step
            columns.append((self.residuals(moved, self.simulated(moved)) - at) / step)
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
    total = 2 * CYCLES * (len(paths) + TRIES) + len(paths) + 3

    def tell() -> None:
        if progress is not None:
            progress("simulated moments", problem.tries, total)

    points, begun = [], {path: value_of(data, path) for path in paths}
    for start in _starts(data):
        for path, value in (begun | start).items():
            with_value(data, path, value)
        logs = problem.begin()
        point = _Point(logs, problem.simulated(logs), logs)
        for _ in range(CYCLES):
            point = _cycle(problem, point, tell)
        points.append(point)
    best = min(points, key=lambda point: float(np.square(problem.residuals_of(point)).sum()))
    logs, found = best.logs, best.found
    jacobian = problem.jacobian(logs, problem.residuals_of(best))
    problem.simulated(logs)  # which puts the fit into the data
    covariance = _sandwich(problem, jacobian, recorded.n)
    sd = np.sqrt(np.diagonal(problem.covariance))
    as_dict = lambda values: dict(zip(problem.names, np.asarray(values).tolist(), strict=True))  # noqa: E731
    return Fit(tuple(paths), logs, covariance, as_dict(problem.target), as_dict(found), as_dict(sd), problem.tries)


def _starts(data: Data) -> list[dict[str, float]]:
    """Where the search begins: the closed forms; and a market whose offsets forget soon, under long stress."""
    short = {"quotes.fast_half_life_s": 0.7, "quotes.slow_half_life_s": data["quotes"]["size_fast_half_life_s"]}
    return [{}, short | {"stress.duration_s": 600.0, "stress.offset_factor": 2.0}]


def _cycle(problem: _Problem, point: _Point, tell: Callable[[], None]) -> _Point:
    """A Jacobian, and `TRIES` damped steps with it."""
    logs, found, problem.origin = point
    residuals = problem.residuals(logs, found)
    jacobian, damping = problem.jacobian(logs, residuals), 1e-2
    for _ in range(TRIES):
        tell()
        move = np.clip(_damped_step(jacobian, residuals, damping), -LARGEST_MOVE, LARGEST_MOVE)
        moved = np.clip(logs + move, problem.low, problem.high)
        step = moved - logs
        if not step.any():
            break
        there = problem.simulated(moved)
        new = problem.residuals(moved, there)
        jacobian = jacobian + np.outer(new - residuals - jacobian @ step, step) / (step @ step)
        if new @ new < residuals @ residuals:
            logs, residuals, found, damping = moved, new, there, damping / 4.0
        else:
            damping *= 8.0
    return _Point(logs, found, point.origin)


def _damped_step(jacobian: np.ndarray, residuals: np.ndarray, damping: float) -> np.ndarray:
    normal = jacobian.T @ jacobian
    scale = np.diag(np.maximum(np.diagonal(normal), 1e-6 * max(float(np.trace(normal)), 1e-12)))
    return np.asarray(np.linalg.solve(normal + damping * scale, -jacobian.T @ residuals))


def _sandwich(problem: _Problem, jacobian: np.ndarray, recorded_blocks: int) -> np.ndarray:
    """Covariance of the logarithms: ``(J'J)^-1 (M' W O W M (1 + 1 / replicas) + P'P) (J'J)^-1``.

    O is the covariance of the recorded moments, M the rows of the Jacobian J that are of moments and P the others: what
    no moment tells of a parameter is open by `PRIOR_SD`.
    """
    inverse, n = np.linalg.inv(jacobian.T @ jacobian), len(problem.names)
    of_moments, of_start = jacobian[:n], jacobian[n:]
    weighted = problem.covariance * np.outer(problem.weight, problem.weight) * (1.0 + recorded_blocks / problem.blocks)
    return np.asarray(inverse @ (of_moments.T @ weighted @ of_moments + of_start.T @ of_start) @ inverse)
