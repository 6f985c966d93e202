"""All closed forms of a recording at once, by the dotted path of the market's field."""

from __future__ import annotations

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
    "fast_half_life_s": "latent autocorrelation of sizes, two speeds",
    "slow_half_life_s": "latent autocorrelation of sizes, two speeds",
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


def closed_forms(observed: Observed, start: TwoSpeeds | None = None) -> dict[str, float]:
    """Every closed form; NaN where the recording does not say."""
    paths = observed.paths
    shown = np.where(paths.ask_shares > 0.0, paths.ask_shares, np.nan)
    law, speeds = (
        quantile_law(shown, observed.lot_shares),
        quote.size_speeds(shown, observed.lot_shares, paths.grid_s, start),
    )
    below, above = law.log_sd_below, law.log_sd_above
    sd, tail = (below, above / below - 1.0) if above > below > 0.0 else (0.5 * (below + above), 0.0)
    spread = paths.ask_bps - paths.bid_bps
    spread = np.where(spread > TIE_BPS, spread, np.nan)
    half_bps, offset_sd = quote.offsets(spread, observed.tick_bps)
    slow = quote.slow_share(spread, observed.tick_bps, speeds.slow_half_life_s, paths.grid_s)
    moves = price.moves_of(observed.mid_bps, paths.grid_s)
    clusters, jumps = price.volatility_clusters(moves, price.SPAN_S), price.jumps(moves, price.SPAN_S)
    venues = {
        "offset_bps": half_bps,
        "size_shares": law.median,
        "quote_delay_s": quote.quote_delays(paths.ask_bps, paths.bid_bps, paths.grid_s),
    }
    out = {
        "quotes.fast_half_life_s": speeds.fast_half_life_s,
        "quotes.slow_half_life_s": speeds.slow_half_life_s,
        "quotes.size_fast_sd": sd * np.sqrt(speeds.fast_share),
        "quotes.size_slow_sd": sd * np.sqrt(1.0 - speeds.fast_share),
        "quotes.size_tail": tail,
        "quotes.offset_fast_sd": offset_sd * np.sqrt(1.0 - slow),
        "quotes.offset_slow_sd": offset_sd * np.sqrt(slow),
        "price.volatility_bps_per_sqrt_s": price.volatility_bps(moves, price.SPAN_S),
        "price.volatility_log_sd": clusters.log_sd,
        "price.volatility_half_life_s": clusters.half_life_s,
        "price.jumps_per_hour": jumps.per_hour,
        "price.jump_sd_bps": jumps.sd_bps,
    }
    if observed.volume is not None and observed.volume.sum() > 0.0:
        found, of_venues = _traded(observed)
        out |= found
        venues |= of_venues
    for field, values in venues.items():
        out |= {f"venues.{name}.{field}": x for name, x in zip(paths.venue_names, values, strict=True)}
    return {path: float(value) for path, value in out.items()}


def _traded(observed: Observed) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Of the volume and what follows a print: of the market, and of venues (K,)."""
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
    k = len(observed.paths.venue_names)
    return found, {"volume_share": trade.venue_shares(volume), "refill_half_life_s": np.full(k, refill)}


def closed_form_estimates(observed: Observed, seed: int = 0) -> dict[str, Estimate]:
    """Every closed form that the recording says something of, with its interval over blocks."""
    values = closed_forms(observed)
    start = TwoSpeeds(values["quotes.fast_half_life_s"], values["quotes.slow_half_life_s"], 0.7)
    paths = list(values)

    def logs(which: np.ndarray) -> np.ndarray:
        found = closed_forms(observed.take(which), start)
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.log([found.get(path, np.nan) for path in paths])
        return np.asarray(np.where(np.isfinite(x), x, np.nan))

    sds, out = resampled_sd(logs, observed.n, seed=seed), {}
    for path, sd in zip(paths, sds, strict=True):
        if np.isfinite(values[path]):
            how = HOW[path.rpartition(".")[2]]
            out[path] = Estimate(path, values[path], *log_interval(values[path], sd, observed.n), how)
    return out
