"""Moments of quotes that a simulated market is fitted to: smooth functions of its parameters, and few."""

from __future__ import annotations

import numpy as np

from sor_sb3.calibration.price_estimators import SPAN_S, abs_products, moves_of
from sor_sb3.evaluation.path_statistics import TIE_BPS
from sor_sb3.evaluation.true_quotes import QuotePaths

LAGS_S = (1, 5, 10, 30, 60)
CLUSTER_LAGS = (1, 3, 12)


def resampled(paths: QuotePaths, which: np.ndarray) -> QuotePaths:
    """Some blocks of quotes, by index."""
    parts = (paths.ask_bps, paths.bid_bps, paths.ask_shares, paths.locked, paths.crossed)
    return QuotePaths(paths.grid_s, paths.venue_names, *(part[which] for part in parts))


def _steps(paths: QuotePaths, seconds: float) -> int:
    return max(round(seconds / paths.grid_s), 1)


def _autocorrelations(values: np.ndarray, lags: list[int]) -> list[float]:
    """Of K series about their means over all blocks, pooled."""
    known = np.isfinite(values)
    x = np.where(known, values - np.nanmean(values, axis=(0, 1)), 0.0)
    return [float((x[:, lag:] * x[:, :-lag]).sum() / np.square(x).sum()) for lag in lags]


def _pairs(values: np.ndarray) -> float:
    """Mean correlation over pairs of K series, about their means over all blocks."""
    known = np.isfinite(values)
    x = np.where(known, values - np.nanmean(values, axis=(0, 1)), 0.0).reshape(-1, values.shape[2])
    products, squares = x.T @ x, np.square(x).T @ known.reshape(x.shape)
    upper = np.triu_indices(values.shape[2], 1)
    return float((products / np.sqrt(squares * squares.T))[upper].mean())


def moments(paths: QuotePaths) -> dict[str, float]:
    """Each moment by name; those of a venue end with its name. Logarithms where a moment is a scale."""
    ask, bid, names = paths.ask_bps, paths.bid_bps, paths.venue_names
    spread = np.where(ask - bid > TIE_BPS, ask - bid, np.nan)
    log_spread = np.log(spread)
    best_ask, best_bid = np.fmin.reduce(ask, axis=2), np.fmax.reduce(bid, axis=2)
    at_best, quoting = ask - best_ask[..., None] <= TIE_BPS, np.isfinite(ask)
    both = quoting[:, 1:] & quoting[:, :-1]
    steps = [np.where(both, np.abs(np.diff(side, axis=1)) > TIE_BPS, 0.0).sum(axis=(0, 1)) for side in (ask, bid)]
    out = {f"log spread {name}": x for name, x in zip(names, np.nanmean(log_spread, axis=(0, 1)), strict=True)}
    changed = 0.5 * (steps[0] + steps[1]) / both.sum(axis=(0, 1))
    out |= {f"changed in a step {name}": x for name, x in zip(names, changed, strict=True)}
    there = at_best.sum(axis=(0, 1)) / quoting.sum(axis=(0, 1))
    out |= {f"at best {name}": x for name, x in zip(names, there, strict=True)}
    at_both = at_best & (best_bid[..., None] - bid <= TIE_BPS)
    out["at both best"] = float(at_both.sum() / (quoting & np.isfinite(bid)).sum())
    between = _pairs(log_spread)
    out["correlation of spreads"] = between
    out["sd of log spread"] = float(np.sqrt(np.nanmean(np.nanvar(log_spread, axis=(0, 1)))))
    lags = [_steps(paths, lag) for lag in LAGS_S]
    found = _autocorrelations(log_spread, lags)
    out |= {f"spread autocorrelation {lag} s": x for lag, x in zip(LAGS_S, found, strict=True)}
    log_size = np.log(np.where(paths.ask_shares > 0.0, paths.ask_shares, np.nan))
    out["sd of log size"] = float(np.sqrt(np.nanmean(np.nanvar(log_size, axis=(0, 1)))))
    found = _autocorrelations(log_size, lags)
    out |= {f"size autocorrelation {lag} s": x for lag, x in zip(LAGS_S, found, strict=True)}
    moves = moves_of(0.5 * (best_ask + best_bid), paths.grid_s)
    out["log volatility"] = float(0.5 * np.log(np.nanmean(np.square(moves)) / SPAN_S))
    out["log fourth moment"] = float(np.log(np.nanmean(moves**4) / np.nanmean(moves**2) ** 2))
    clusters = abs_products(moves, CLUSTER_LAGS)
    out |= {f"absolute moves {SPAN_S * lag:g} s apart": x for lag, x in zip(CLUSTER_LAGS, clusters, strict=True)}
    out["log excess"] = float(np.log(np.nanmean(ask - best_ask[..., None])))
    uncrossed = best_ask - best_bid
    out["log best spread"] = float(np.log(np.nanmean(uncrossed[uncrossed >= -TIE_BPS])))
    out["alone at best"] = float((at_best.sum(axis=2) == 1).sum() / np.isfinite(best_ask).sum())
    lag = _steps(paths, SPAN_S)
    later = best_ask[:, lag:] - best_ask[:, :-lag]
    out["best ask unchanged"] = float((np.abs(later) <= TIE_BPS).sum() / np.isfinite(later).sum())
    return {key: float(value) for key, value in (out | _between(ask, at_best, best_ask, lag)).items()}


def _still(at_best: np.ndarray, lag: int) -> float:
    """How often a venue at the best ask is there so many steps later; NaN beyond the block."""
    now = at_best[:, :-lag]
    return float((at_best[:, lag:] & now).sum() / now.sum()) if lag < at_best.shape[1] else float("nan")


def _between(ask: np.ndarray, at_best: np.ndarray, best_ask: np.ndarray, lag: int) -> dict[str, float]:
    k = ask.shape[2]
    changes = np.diff(ask[:, ::lag], axis=1).reshape(-1, k)
    x = np.where(np.isfinite(changes), changes, 0.0)
    products = x.T @ x
    sd = np.sqrt(np.diagonal(products))
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = (products / sd[:, None] / sd)[~np.eye(k, dtype=bool)]
        still = at_best[:, ::lag][:, :-1] & np.isfinite(ask[:, ::lag][:, 1:])
        later, best = ask[:, ::lag][:, 1:], best_ask[:, ::lag][:, 1:]
        paid = np.where(still, later, 0.0).sum(axis=2) / still.sum(axis=2)
        lost, saving = paid - best, np.nanmean(later, axis=2) - best
        known = np.isfinite(lost) & np.isfinite(saving)
        return {
            "correlation of ask changes": float(np.nanmean(pairs)),
            "stale choice": float(lost[known].sum() / saving[known].sum()),
            "best still best": _still(at_best, lag),
            "best still best much later": _still(at_best, 6 * lag),
        }
