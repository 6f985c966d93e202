"""Statistics of true quotes, each with an interval over scenarios: what a market looks like while nobody trades.

Each is a function of sums by scenario; the interval is the jackknife's, which leaves out a scenario at a time. The
definitions are those of the statistics of recorded quotes that the ranges come from, so that a simulated and a recorded
market can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from sor_sb3.evaluation.true_quotes import QuotePaths

TIE_BPS = 1e-6  # prices nearer than this are one price
GROUPS = 20  # of scenarios, over which a quantile's interval is taken
AUTOCORRELATION_LAGS_S = (1, 5, 10, 60, 300)

Combine = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
    """A statistic with its 95 % interval over scenarios; NaN where it has no value."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Statistic:
    """What a figure is called, its unit ("" where it has none) and how many digits after the point are printed."""

    label: str
    unit: str
    digits: int = 2


PATH_STATISTICS: dict[str, Statistic] = {
    "spread_bps": Statistic("best ask less best bid, uncrossed moments", "bps"),
    "size_at_best_shares": Statistic("largest displayed size at the best ask, median", "shares", 0),
    "excess_bps": Statistic("a venue's ask above the best, mean", "bps"),
    "excess_over_half_spread": Statistic("· over the best half-spread", ""),
    "at_best": Statistic("a venue is at the best ask, share of time, mean over venues", ""),
    "at_best_most": Statistic("· the venue that is there most", ""),
    "at_best_least": Statistic("· the venue that is there least", ""),
    "alone_at_best": Statistic("one venue alone at the best ask, share of time", ""),
    **{
        f"spread_autocorrelation_{lag}s": Statistic(f"autocorrelation of a venue's log spread, {lag} s", "")
        for lag in AUTOCORRELATION_LAGS_S
    },
    **{
        f"size_autocorrelation_{lag}s": Statistic(f"autocorrelation of a venue's log size, {lag} s", "")
        for lag in AUTOCORRELATION_LAGS_S
    },
    "size_q10": Statistic("10 % quantile of a venue's size, over its median", ""),
    "size_q90": Statistic("90 % quantile of a venue's size, over its median", ""),
    "volatility_bps": Statistic("standard deviation of the midpoint's moves in 5 s", "bps/sqrt(s)"),
    "move_kurtosis": Statistic("excess kurtosis of the midpoint's moves in 5 s", ""),
    **{
        f"move_autocorrelation_{lag}s": Statistic(f"autocorrelation of absolute moves in 5 s, {lag} s", "")
        for lag in (5, 10, 60)
    },
    **{f"variance_ratio_{s}s": Statistic(f"variance ratio, {s} s to 5 s", "") for s in (60, 300)},
    "ask_unchanged": Statistic("best ask unchanged after 5 s", ""),
    "quote_life_s": Statistic("mean life of a best ask's price, seen each second", "s"),
    "ask_correlation": Statistic("correlation of venues' ask changes in 5 s", ""),
    "lead_lag_5s": Statistic("asymmetry of it 5 s apart (lead and lag), mean over pairs", "", 3),
    "lead_lag_1s": Statistic("asymmetry of changes in 1 s, 1 s apart, mean over pairs", "", 3),
    "stale_choice_loss": Statistic("saving lost by a choice 5 s old", ""),
    "locked_percent": Statistic("locked, share of time", "%"),
    "crossed_percent": Statistic("crossed, share of time", "%", 3),
}


# ------------------------------------------------------------------------------------------------- intervals


def jackknife(sums: np.ndarray, combine: Combine) -> Interval:
    """A function of sums over scenarios, with the interval of the jackknife that leaves out one at a time.

    Args:
        sums: float64 (n, m), of each scenario.
        combine: the statistic (...) of sums (..., m).
    """
    n = len(sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        value, without = float(combine(sums.sum(axis=0))), np.asarray(combine(sums.sum(axis=0) - sums))
    return _interval(value, without, n)


def grouped(statistic: Callable[[np.ndarray], float], n: int) -> Interval:
    """Any function of which scenarios (int indices) it reads; the interval is that of its mean over groups of them.

    For quantiles: leaving out little of the data moves a quantile of round lots by nothing or by a whole lot.
    """
    groups = min(GROUPS, n)
    everyone = np.arange(n)
    value = statistic(everyone)
    each = np.array([statistic(everyone[everyone % groups == g]) for g in range(groups)])
    if not np.isfinite(value) or groups < 2 or not np.isfinite(each).all():
        bound = np.inf if np.isfinite(value) else np.nan
        return Interval(float(value), -bound, bound)
    half = float(-special.stdtrit(groups - 1, 0.025) * each.std(ddof=1) / np.sqrt(groups))
    return Interval(value, value - half, value + half)


def _interval(value: float, without: np.ndarray, n: int) -> Interval:
    if not np.isfinite(value):
        return Interval(float("nan"), float("nan"), float("nan"))
    if n < 2 or not np.isfinite(without).all():
        return Interval(value, -np.inf, np.inf)
    error = np.sqrt((n - 1) / n * np.square(without - without.mean()).sum())
    half = float(-special.stdtrit(n - 1, 0.025) * error)
    return Interval(value, value - half, value + half)


def ratio_of(sums: np.ndarray) -> np.ndarray:
    """The first sum over the second."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def mean_of(values: np.ndarray) -> Interval:
    """Mean of all values (n, ...) that are numbers, with its interval over scenarios."""
    flat = values.reshape(len(values), -1)
    known = np.isfinite(flat)
    return jackknife(np.stack([np.where(known, flat, 0.0).sum(axis=1), known.sum(axis=1)], axis=1), ratio_of)


# ------------------------------------------------------------------------------------------------ statistics


class _Grid:
    """The quotes with what several statistics read."""

    def __init__(self, paths: QuotePaths) -> None:
        self.paths, self.ask, self.bid = paths, paths.ask_bps, paths.bid_bps
        self.best_ask, self.best_bid = np.fmin.reduce(self.ask, axis=2), np.fmax.reduce(self.bid, axis=2)
        self.mid = 0.5 * (self.best_ask + self.best_bid)
        self.excess = self.ask - self.best_ask[..., None]
        self.at_best = self.excess <= TIE_BPS
        self.quoting = np.isfinite(self.ask)

    def steps(self, seconds: float) -> int:
        """Steps of the grid in a span."""
        return max(round(seconds / self.paths.grid_s), 1)

    def changes(self, values: np.ndarray, seconds: float) -> np.ndarray:
        """Changes over consecutive spans, without overlap."""
        every = values[:, :: self.steps(seconds)]
        return np.asarray(every[:, 1:] - every[:, :-1])


def path_statistics(paths: QuotePaths) -> dict[str, Interval]:
    """Every statistic of `PATH_STATISTICS`, by key."""
    grid, out = _Grid(paths), {}
    with np.errstate(invalid="ignore", divide="ignore"):
        out.update(_levels(grid))
        out.update(_persistence(grid))
        out.update(_moves(grid))
        out.update(_between_venues(grid))
    for key, values in (("locked_percent", paths.locked), ("crossed_percent", paths.crossed)):
        out[key] = mean_of(100.0 * values)
    return {key: out[key] for key in PATH_STATISTICS}


def _levels(grid: _Grid) -> dict[str, Interval]:
    spread = grid.best_ask - grid.best_bid
    spread = np.where(spread >= -TIE_BPS, spread, np.nan)
    largest = np.where(grid.at_best, grid.paths.ask_shares, 0.0).max(axis=2)
    largest = np.where(np.isfinite(grid.best_ask) & (largest > 0.0), largest, np.nan)
    n, total = grid.paths.n, lambda x: np.where(np.isfinite(x), x, 0.0).reshape(len(x), -1).sum(axis=1)
    excess = np.stack([total(grid.excess), grid.quoting.sum(axis=(1, 2)), total(spread)], axis=1)
    excess = np.concatenate([excess, np.isfinite(spread).sum(axis=1)[:, None]], axis=1)
    best, quoted = grid.at_best.sum(axis=1), np.isfinite(grid.best_ask).sum(axis=1)[:, None]
    k = best.shape[1]
    shares = np.concatenate([best, quoted], axis=1).astype(np.float64)
    sizes = grid.paths.ask_shares[:, :: grid.steps(5)]

    def quantile(q: float) -> Callable[[np.ndarray], float]:
        def of(kept: np.ndarray) -> float:
            found = []
            for venue in range(k):
                known = sizes[kept, :, venue]
                known = known[known > 0.0]
                if known.size:
                    low, middle = np.quantile(known, (q, 0.5))
                    found.append(low / middle)
            return float(np.mean(found)) if found else float("nan")

        return of

    median = lambda kept: float(np.nanmedian(largest[kept, :: grid.steps(5)])) if largest.size else np.nan  # noqa: E731
    return {
        "spread_bps": mean_of(spread),
        "size_at_best_shares": grouped(median, n),
        "excess_bps": jackknife(excess, lambda s: s[..., 0] / s[..., 1]),
        "excess_over_half_spread": jackknife(excess, lambda s: s[..., 0] / s[..., 1] / (0.5 * s[..., 2] / s[..., 3])),
        "at_best": jackknife(np.stack([best.sum(axis=1), grid.quoting.sum(axis=(1, 2))], axis=1) * 1.0, ratio_of),
        "at_best_most": jackknife(shares, lambda s: s[..., :k].max(axis=-1) / s[..., k]),
        "at_best_least": jackknife(shares, lambda s: s[..., :k].min(axis=-1) / s[..., k]),
        "alone_at_best": mean_of(np.where(np.isfinite(grid.best_ask), grid.at_best.sum(axis=2) == 1, np.nan)),
        "size_q10": grouped(quantile(0.1), n),
        "size_q90": grouped(quantile(0.9), n),
    }


def autocorrelation(values: np.ndarray, lag: int) -> Interval:
    """Autocorrelation of series (n, T, K) about their own means, mean over the K series that vary; NaN is unknown."""
    known = np.isfinite(values)
    deviations = np.where(known, values - np.nanmean(np.where(known, values, np.nan), axis=1, keepdims=True), 0.0)
    if lag >= values.shape[1]:
        return Interval(float("nan"), float("nan"), float("nan"))
    first, second = deviations[:, :-lag], deviations[:, lag:]
    both = known[:, :-lag] & known[:, lag:]
    sums = [(first * second).sum(axis=1), (np.square(first) * both).sum(axis=1), (np.square(second) * both).sum(axis=1)]
    k = values.shape[2]

    def combine(s: np.ndarray) -> np.ndarray:
        product, one, two = s[..., :k], s[..., k : 2 * k], s[..., 2 * k :]
        varies = (one > 1e-12) & (two > 1e-12)
        each = np.where(varies, product / np.sqrt(np.where(varies, one * two, 1.0)), 0.0)
        return np.asarray(each.sum(axis=-1) / varies.sum(axis=-1))

    return jackknife(np.concatenate(sums, axis=1), combine)


def _persistence(grid: _Grid) -> dict[str, Interval]:
    out = {}
    spread, shares = grid.ask - grid.bid, grid.paths.ask_shares
    series = {
        "spread": np.log(np.where(spread > TIE_BPS, spread, np.nan)),
        "size": np.log(np.where(shares > 0.0, shares, np.nan)),
    }
    for name, values in series.items():
        for lag in AUTOCORRELATION_LAGS_S:
            out[f"{name}_autocorrelation_{lag}s"] = autocorrelation(values, grid.steps(lag))
    return out


def _pooled_correlation(first: np.ndarray, second: np.ndarray) -> Interval:
    """Correlation of two (n, T) about means over all scenarios."""
    known = np.isfinite(first) & np.isfinite(second)
    x, y = np.where(known, first, 0.0), np.where(known, second, 0.0)
    sums = np.stack([(z.sum(axis=1)) for z in (known * 1.0, x, y, x * x, y * y, x * y)], axis=1)

    def combine(s: np.ndarray) -> np.ndarray:
        n, sx, sy, sxx, syy, sxy = np.moveaxis(s, -1, 0)
        return np.asarray((sxy - sx * sy / n) / np.sqrt((sxx - sx * sx / n) * (syy - sy * sy / n)))

    return jackknife(sums, combine)


def _moves(grid: _Grid) -> dict[str, Interval]:
    moves = grid.changes(grid.mid, 5.0)
    span_s = grid.steps(5.0) * grid.paths.grid_s
    known, x = np.isfinite(moves), np.where(np.isfinite(moves), moves, 0.0)
    powers = np.stack([known.sum(axis=1), *((x**p).sum(axis=1) for p in (2, 4))], axis=1)
    out = {
        "volatility_bps": jackknife(powers, lambda s: np.sqrt(s[..., 1] / s[..., 0] / span_s)),
        "move_kurtosis": jackknife(powers, lambda s: s[..., 0] * s[..., 2] / np.square(s[..., 1]) - 3.0),
    }
    for lag_s in (5, 10, 60):
        lag = max(round(lag_s / span_s), 1)
        out[f"move_autocorrelation_{lag_s}s"] = _pooled_correlation(np.abs(moves[:, :-lag]), np.abs(moves[:, lag:]))
    for long_s in (60, 300):
        longer = grid.changes(grid.mid, long_s)
        both = np.stack([np.isfinite(longer).sum(axis=1), np.nansum(longer**2, axis=1)], axis=1)
        per = grid.steps(long_s) / grid.steps(5.0)
        out[f"variance_ratio_{long_s}s"] = jackknife(
            np.concatenate([both, powers[:, :2]], axis=1), _variance_ratio(per)
        )
    return out


def _variance_ratio(spans: float) -> Combine:
    """Mean square of long moves over `spans` times that of short ones, of counts and sums of squares of each."""
    return lambda s: np.asarray(s[..., 1] / s[..., 0] / (spans * s[..., 3] / s[..., 2]))


def lagged_sums(changes: np.ndarray) -> np.ndarray:
    """By scenario, sums of ``x_k(t) x_l(t)``, ``x_k(t) x_l(t + 1)`` over changes (n, T, K); (n, 2 K K)."""
    x = np.where(np.isfinite(changes), changes, 0.0)
    now, later = np.einsum("ntk,ntl->nkl", x, x), np.einsum("ntk,ntl->nkl", x[:, :-1], x[:, 1:])
    return np.concatenate([now.reshape(len(x), -1), later.reshape(len(x), -1)], axis=1)


def _correlations(sums: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlations (..., K, K) at the same time, and of k's changes with l's a span later."""
    now, later = sums[..., : k * k].reshape(*sums.shape[:-1], k, k), sums[..., k * k :].reshape(*sums.shape[:-1], k, k)
    sd = np.sqrt(np.diagonal(now, axis1=-2, axis2=-1))
    scale = sd[..., :, None] * sd[..., None, :]
    return now / scale, later / scale


def _mean_known(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is a number; NaN where nothing is."""
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0.0).sum(axis=-1) / known.sum(axis=-1))


def mean_correlation(k: int) -> Combine:
    """Mean correlation over pairs of K venues, of `lagged_sums`."""
    pairs = ~np.eye(k, dtype=bool)
    return lambda sums: _mean_known(_correlations(sums, k)[0][..., pairs])


def mean_asymmetry(k: int) -> Combine:
    """Mean over pairs of the size of ``corr(k, l later) - corr(l, k later)``: 0 where nobody leads."""
    upper = np.triu_indices(k, 1)

    def combine(sums: np.ndarray) -> np.ndarray:
        later = _correlations(sums, k)[1]
        asymmetry = np.abs(later - np.swapaxes(later, -1, -2))[..., upper[0], upper[1]]
        return _mean_known(asymmetry)

    return combine


def leader(paths: QuotePaths, seconds: float = 1.0) -> str:
    """The venue whose changes the others follow most, a span later; "" where there is one venue."""
    grid, k = _Grid(paths), len(paths.venue_names)
    if k < 2:
        return ""
    with np.errstate(invalid="ignore", divide="ignore"):
        later = _correlations(lagged_sums(grid.changes(grid.ask, seconds)).sum(axis=0), k)[1]
    return paths.venue_names[int(np.argmax(np.nansum(later - later.T, axis=1)))]


def _between_venues(grid: _Grid) -> dict[str, Interval]:
    k = grid.ask.shape[2]
    nothing = Interval(float("nan"), float("nan"), float("nan"))
    out = dict.fromkeys(("ask_correlation", "lead_lag_5s", "lead_lag_1s", "stale_choice_loss"), nothing)
    later, now = grid.best_ask[:, grid.steps(5.0) :], grid.best_ask[:, : -grid.steps(5.0)]
    known = np.isfinite(later) & np.isfinite(now)
    out["ask_unchanged"] = mean_of(np.where(known, np.abs(later - now) <= TIE_BPS, np.nan))
    change = np.abs(np.diff(grid.best_ask, axis=1))
    lives = np.stack([np.isfinite(change).sum(axis=1) * grid.paths.grid_s, (change > TIE_BPS).sum(axis=1)], axis=1)
    out["quote_life_s"] = jackknife(lives, ratio_of)
    if k > 1:
        sums = lagged_sums(grid.changes(grid.ask, 5.0))
        out["ask_correlation"] = jackknife(sums, mean_correlation(k))
        out["lead_lag_5s"] = jackknife(sums, mean_asymmetry(k))
        out["lead_lag_1s"] = jackknife(lagged_sums(grid.changes(grid.ask, 1.0)), mean_asymmetry(k))
        out["stale_choice_loss"] = _stale_choice(grid)
    return out


def _stale_choice(grid: _Grid) -> Interval:
    """The share of the saving (mean ask less best) that is lost who pays now where the ask was best 5 s ago."""
    every = grid.steps(5.0)
    ask, chosen = grid.ask[:, ::every][:, 1:], grid.at_best[:, ::every][:, :-1]
    still = chosen & np.isfinite(ask)
    best = np.fmin.reduce(ask, axis=2)
    paid = np.where(still, ask, 0.0).sum(axis=2) / still.sum(axis=2)
    mean = np.nanmean(ask, axis=2)
    known = np.isfinite(paid) & np.isfinite(mean)
    lost, saving = (np.where(known, x - best, 0.0).sum(axis=1) for x in (paid, mean))
    return jackknife(np.stack([lost, saving], axis=1), ratio_of)
