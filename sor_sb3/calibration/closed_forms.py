"""All closed forms of a recording at once, by the dotted path of the market's field."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sor_sb3.calibration import price_estimators as price
from sor_sb3.calibration import quote_estimators as quote
from sor_sb3.calibration import trade_estimators as trade
from sor_sb3.calibration.intervals import Estimate, log_interval, resampled_sd
from sor_sb3.calibration.latent import TwoSpeeds, quantile_law
from sor_sb3.calibration.observed import Observed
from sor_sb3.evaluation.path_statistics import TIE_BPS

HOW = {
    "size_shares": "quantiles of displayed sizes, at the borders of lots",
    "size_fast_sd": "latent autocorrelation of sizes, two speeds",
    "size_slow_sd": "latent autocorrelation of sizes, two speeds",
    "size_fast_half_life_s": "latent autocorrelation of sizes, two speeds",
    "size_slow_half_life_s": "latent autocorrelation of sizes, two speeds",
    "fast_half_life_s": "latent autocorrelation of spreads, two speeds",
    "slow_half_life_s": "latent autocorrelation of spreads, two speeds",
    "size_tail": "quantiles of sizes, above the median over below",
    "offset_bps": "quantiles of spreads less a tick",
    "offset_fast_sd": "quantiles and latent autocorrelation of spreads",
    "offset_slow_sd": "quantiles and latent autocorrelation of spreads",
    "quote_delay_s": "share of seconds in which a quote changes",
    "volatility_bps_per_sqrt_s": "root mean square of midpoint moves in 5 s",
    "volatility_log_sd": "products of absolute moves (Taylor 1986)",
    "volatility_half_life_s": "products of absolute moves (Taylor 1986)",
    "jumps_per_hour": "moves beyond bipower (Lee, Mykland 2008), a lower bound",
    "jump_sd_bps": "moves beyond bipower (Lee, Mykland 2008)",
    "shares_per_day": "mean volume",
    "volume_share": "share of the volume",
    "curve": "regression on the time of the day",
    "trade_shares": "index of dispersion of volume in a second",
    "noise_sd": "variance of volume in a second",
    "side_correlation": "who trades, regressed on the move meanwhile",
    "flow_foresight": "who trades and the next second's move",
    "permanent_impact_bps_per_1000_shares": "move 60 s after a print (Kyle 1985), an upper bound",
    "transient_impact_bps_per_1000_shares": "move 1 s after a print less that after 60 s",
    "transient_half_life_s": "decay of the move after a print",
    "refill_half_life_s": "display after large prints (Degryse et al. 2005)",
}


class Seen(NamedTuple):
    """What is counted once of a recording's n blocks, for all resamples of them; and where searches begin."""

    sizes: np.ndarray
    spreads: np.ndarray
    of_sizes: TwoSpeeds | None = None
    of_offsets: TwoSpeeds | None = None


def seen_of(observed: Observed) -> Seen:
    """The counts of all blocks, with the speeds that they tell."""
    grid_s, places = observed.paths.grid_s, observed.paths.ask_bps.shape[1]
    sizes = quote.seen_again(_shown(observed), observed.lot_shares, grid_s)
    spreads = quote.seen_again(_spread(observed), observed.tick_bps, grid_s)
    return Seen(sizes, spreads, *(quote.speeds(counts, grid_s, places) for counts in (sizes, spreads)))


def _shown(observed: Observed) -> np.ndarray:
    shares = observed.paths.ask_shares
    return np.where(shares > 0.0, shares, np.nan)


def _spread(observed: Observed) -> np.ndarray:
    spread = observed.paths.ask_bps - observed.paths.bid_bps
    return np.where(spread > TIE_BPS, spread, np.nan)


def closed_forms(observed: Observed, seen: Seen) -> dict[str, float]:
    """Every closed form; NaN where the recording does not say."""
    paths = observed.paths
    half_bps, offset_sd = quote.offsets(_spread(observed), observed.tick_bps)
    speeds = quote.speeds(seen.spreads, paths.grid_s, paths.ask_bps.shape[1], seen.of_offsets)
    moves = price.moves_of(observed.mid_bps, paths.grid_s)
    clusters, jumps = price.volatility_clusters(moves, price.SPAN_S), price.jumps(moves, price.SPAN_S)
    out = {
        "quotes.fast_half_life_s": speeds.fast_half_life_s,
        "quotes.slow_half_life_s": speeds.slow_half_life_s,
        "quotes.offset_fast_sd": offset_sd * np.sqrt(speeds.fast_share),
        "quotes.offset_slow_sd": offset_sd * np.sqrt(1.0 - speeds.fast_share),
        "price.volatility_bps_per_sqrt_s": price.volatility_bps(moves, price.SPAN_S),
        "price.volatility_log_sd": clusters.log_sd,
        "price.volatility_half_life_s": clusters.half_life_s,
        "price.jumps_per_hour": jumps.per_hour,
        "price.jump_sd_bps": jumps.sd_bps,
    }
    delays = quote.quote_delays(paths.ask_bps, paths.bid_bps, paths.grid_s)
    out |= size_forms(observed, seen) | _of_venues(observed, offset_bps=half_bps, quote_delay_s=delays)
    if observed.volume is not None and observed.volume.sum() > 0.0:
        out |= _traded(observed)
    return {path: float(value) for path, value in out.items()}


def size_forms(observed: Observed, seen: Seen) -> dict[str, float]:
    """The closed forms of displayed sizes: they hold in the model as they are."""
    law = quantile_law(_shown(observed), observed.lot_shares)
    speeds = quote.speeds(seen.sizes, observed.paths.grid_s, observed.paths.ask_bps.shape[1], seen.of_sizes)
    below, above = law.log_sd_below, law.log_sd_above
    sd, tail = (below, above / below - 1.0) if above > below > 0.0 else (0.5 * (below + above), 0.0)
    return {
        "quotes.size_fast_half_life_s": speeds.fast_half_life_s,
        "quotes.size_slow_half_life_s": speeds.slow_half_life_s,
        "quotes.size_fast_sd": sd * float(np.sqrt(speeds.fast_share)),
        "quotes.size_slow_sd": sd * float(np.sqrt(1.0 - speeds.fast_share)),
        "quotes.size_tail": tail,
        **_of_venues(observed, size_shares=law.median),
    }


def _of_venues(observed: Observed, **fields: np.ndarray) -> dict[str, float]:
    """Fields of venues (K,), by dotted path."""
    names = observed.paths.venue_names
    return {
        f"venues.{name}.{field}": float(values[k]) for field, values in fields.items() for k, name in enumerate(names)
    }


def _traded(observed: Observed) -> dict[str, float]:
    """Of the volume and what follows a print."""
    volume, sold, grid_s = observed.volume, observed.sold, observed.paths.grid_s
    assert volume is not None and sold is not None
    mid = observed.mid_bps
    tick_sd = float(np.sqrt(np.nanmean(np.square(np.diff(mid, axis=1)))))
    lead = trade.buyers_lead(volume, sold)
    correlation = trade.side_correlation(lead, mid, tick_sd)
    moved = trade.impact(volume.sum(axis=2) - 2.0 * sold.sum(axis=2), mid, grid_s)
    quiet = trade.is_quiet(volume)
    refill = trade.refill_half_life_s(observed.paths.ask_shares, volume - sold, grid_s)
    found = {
        "volume.shares_per_day": trade.shares_per_day(volume, grid_s, observed.day_s),
        "volume.curve": trade.day_curve(volume.sum(axis=2).mean(axis=1), observed.position),
        "volume.trade_shares" if quiet else "volume.noise_sd": (
            trade.trade_shares(volume) if quiet else trade.volume_noise_sd(volume)
        ),
        "volume.side_correlation": correlation,
        "informed.flow_foresight": trade.flow_foresight(lead, mid, tick_sd, correlation),
        "response.permanent_impact_bps_per_1000_shares": moved.permanent_bps_per_1000,
        "response.transient_impact_bps_per_1000_shares": moved.transient_bps_per_1000,
        "response.transient_half_life_s": moved.half_life_s,
    }
    refills = np.full(volume.shape[2], refill)
    return found | _of_venues(observed, volume_share=trade.venue_shares(volume), refill_half_life_s=refills)


def closed_form_estimates(
    observed: Observed, seed: int = 0, forms: Callable[[Observed, Seen], dict[str, float]] = closed_forms
) -> dict[str, Estimate]:
    """Every closed form that the recording says something of, with its interval over blocks."""
    seen = seen_of(observed)
    values = forms(observed, seen)
    paths = list(values)

    def logs(which: np.ndarray) -> np.ndarray:
        found = forms(observed.take(which), seen._replace(sizes=seen.sizes[which], spreads=seen.spreads[which]))
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.log([found.get(path, np.nan) for path in paths])
        return np.asarray(np.where(np.isfinite(x), x, np.nan))

    sds, out = resampled_sd(logs, observed.n, seed=seed), {}
    for path, sd in zip(paths, sds, strict=True):
        if np.isfinite(values[path]):
            how = HOW[path.rpartition(".")[2]]
            out[path] = Estimate(path, values[path], *log_interval(values[path], sd, observed.n), how)
    return out
