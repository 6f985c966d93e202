"""Statistics of quotes by which a calibrated market is judged: those of the realism panel, and more between venues."""

from __future__ import annotations

import numpy as np

from sor_sb3.evaluation.path_statistics import (
    PATH_STATISTICS,
    TIE_BPS,
    Interval,
    Statistic,
    grouped,
    jackknife,
    mean_of,
    path_statistics,
    ratio_of,
)
from sor_sb3.evaluation.true_quotes import QuotePaths

STILL_BEST_S = (5, 30, 60)
MORE_STATISTICS: dict[str, Statistic] = {
    "excess_q50": Statistic("a venue's ask above the best where it is, median, over the mean half-spread", ""),
    "excess_q90": Statistic("· its 90 % quantile", ""),
    "spread_log_sd": Statistic("sd of a venue's log spread", ""),
    "size_log_sd": Statistic("sd of a venue's log size", ""),
    "spread_between_venues": Statistic("correlation of two venues' log spreads", ""),
    "size_between_venues": Statistic("correlation of two venues' log sizes", ""),
    **{f"still_best_{s}s": Statistic(f"a venue at the best ask is there {s} s later", "") for s in STILL_BEST_S},
    "over_best_fixed_bps": Statistic("best fixed venue's ask above the best", "bps"),
    "move_autocorrelation_300s": Statistic("autocorrelation of absolute moves in 5 s, 300 s", ""),
}
STATISTICS = PATH_STATISTICS | MORE_STATISTICS


def statistics(paths: QuotePaths) -> dict[str, Interval]:
    """Every statistic of `STATISTICS`, with its interval over blocks."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found = path_statistics(paths) | _more(paths)
    return {key: found[key] for key in STATISTICS}


def _pairs(values: np.ndarray) -> Interval:
    """Mean correlation over pairs of K series (n, T, K), about their means over all."""
    k = values.shape[2]
    known = np.isfinite(values)
    x = np.where(known, values - np.nanmean(values, axis=(0, 1)), 0.0)
    products = np.einsum("ntk,ntl->nkl", x, x)
    squares = np.einsum("ntk,ntl->nkl", np.square(x), known * 1.0)
    upper = np.triu_indices(k, 1)
    sums = [part[:, upper[0], upper[1]] for part in (products, squares, np.swapaxes(squares, 1, 2))]
    m = len(upper[0])

    def combine(s: np.ndarray) -> np.ndarray:
        return np.asarray((s[..., :m] / np.sqrt(s[..., m : 2 * m] * s[..., 2 * m :])).mean(axis=-1))

    return jackknife(np.concatenate(sums, axis=1), combine)


def _log_sd(values: np.ndarray) -> Interval:
    """Sd within a series, root of the mean variance over K series (n, T, K)."""
    k, known = values.shape[2], np.isfinite(values)
    x = np.where(known, values, 0.0)
    sums = np.concatenate([part.sum(axis=1) for part in (known * 1.0, x, np.square(x))], axis=1)

    def combine(s: np.ndarray) -> np.ndarray:
        count, first, second = s[..., :k], s[..., k : 2 * k], s[..., 2 * k :]
        return np.asarray(np.sqrt((second / count - np.square(first / count)).mean(axis=-1)))

    return jackknife(sums, combine)


def _more(paths: QuotePaths) -> dict[str, Interval]:
    ask, every = paths.ask_bps, max(round(5.0 / paths.grid_s), 1)
    spread = np.where(ask - paths.bid_bps > TIE_BPS, ask - paths.bid_bps, np.nan)
    log_size = np.log(np.where(paths.ask_shares > 0.0, paths.ask_shares, np.nan))
    best = np.fmin.reduce(ask, axis=2)
    excess = ask - best[..., None]
    at_best = excess <= TIE_BPS
    over = np.where(excess > TIE_BPS, excess, np.nan)[:, ::every]

    def quantile(q: float) -> Interval:
        def over_half_spread(kept: np.ndarray) -> float:
            return float(np.nanquantile(over[kept], q) / (0.5 * np.nanmean(spread[kept]))) if len(kept) else np.nan

        return grouped(over_half_spread, paths.n)

    by_venue = np.where(np.isfinite(excess), excess, 0.0).sum(axis=1), np.isfinite(excess).sum(axis=1) * 1.0
    k = ask.shape[2]
    out = {
        "excess_q50": quantile(0.5),
        "excess_q90": quantile(0.9),
        "spread_log_sd": _log_sd(np.log(spread)),
        "size_log_sd": _log_sd(log_size),
        "spread_between_venues": _pairs(np.log(spread)),
        "size_between_venues": _pairs(log_size),
        "over_best_fixed_bps": jackknife(
            np.concatenate(by_venue, axis=1), lambda s: np.asarray((s[..., :k] / s[..., k:]).min(axis=-1))
        ),
        "move_autocorrelation_300s": _abs_moves(0.5 * (best + np.fmax.reduce(paths.bid_bps, axis=2))[:, ::every], 60),
    }
    for seconds in STILL_BEST_S:
        lag = max(round(seconds / paths.grid_s), 1)
        both = (at_best[:, lag:] & at_best[:, :-lag]).sum(axis=(1, 2)), at_best[:, :-lag].sum(axis=(1, 2))
        out[f"still_best_{seconds}s"] = jackknife(np.stack(both, axis=1) * 1.0, ratio_of)
    return out


def _abs_moves(mid: np.ndarray, lag: int) -> Interval:
    """Autocorrelation of absolute moves about their mean over all blocks."""
    size = np.abs(np.diff(mid, axis=1))
    if lag >= size.shape[1]:
        return mean_of(np.full((len(mid), 1), np.nan))
    x = size - np.nanmean(size)
    known = np.isfinite(x[:, lag:] * x[:, :-lag])
    product = np.where(known, x[:, lag:] * x[:, :-lag], 0.0).sum(axis=1)
    square = np.where(known, 0.5 * (np.square(x[:, lag:]) + np.square(x[:, :-lag])), 0.0).sum(axis=1)
    return jackknife(np.stack([product, square], axis=1), ratio_of)
