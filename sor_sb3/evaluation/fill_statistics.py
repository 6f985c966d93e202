"""Statistics of a rule's fills for the realism panel, each with an interval over parent orders.

Spreads and midpoints are the true consolidated ones at the env step that sent the child, as Rule 605 takes them at
receipt; later midpoints are those so long after the fill. Prints count one by one.
"""

from __future__ import annotations

import numpy as np

from sor_sb3.evaluation.children import ChildLog
from sor_sb3.evaluation.path_statistics import Interval, Statistic, jackknife, ratio_of

MARKOUT_S = (1.0, 5.0, 10.0)

FILL_STATISTICS: dict[str, Statistic] = {
    "e_over_q_percent": Statistic("effective over quoted spread (E/Q) of children", "%", 1),
    "at_or_inside_percent": Statistic("volume at the quote or better", "%", 1),
    "inside_percent": Statistic("· inside the quote", "%", 1),
    "outside_percent": Statistic("· outside the quote", "%", 1),
    "trade_through_percent": Statistic("traded through a quote elsewhere that stood for 1 s", "%", 3),
    "trade_through_before_percent": Statistic("· younger quotes too", "%", 3),
    "fill_rate_percent": Statistic("fill rate of children at lit venues, shares", "%", 1),
    "fade_percent": Statistic("fade of what was displayed there", "%", 1),
    "effective_spread_bps": Statistic("effective spread", "bps"),
    "realised_spread_bps": Statistic("realised spread after 5 s", "bps"),
    "price_impact_bps": Statistic("price impact after 5 s", "bps"),
    "impact_share": Statistic("· over the effective spread", ""),
    "identity_bps": Statistic("effective less realised less impact, largest", "bps", 12),
    **{f"markout_{s:g}s_bps": Statistic(f"markout of our fills after {s:g} s", "bps") for s in MARKOUT_S},
}

PASSIVE_MARKOUT_S = (1.0, 10.0, 60.0)
PASSIVE_STATISTICS: dict[str, Statistic] = {
    "passive_percent": Statistic("filled at rest, share of the order", "%", 1),
    **{
        f"passive_markout_{s:g}s_bps": Statistic(f"markout of fills at rest after {s:g} s", "bps")
        for s in PASSIVE_MARKOUT_S
    },
}


def _by_order(values: np.ndarray) -> np.ndarray:
    """Sums over a parent's children, (N,)."""
    return np.asarray(values.sum(axis=(1, 2)))


def _ratio(top: np.ndarray, bottom: np.ndarray, scale: float = 1.0) -> Interval:
    return jackknife(np.stack([scale * _by_order(top), _by_order(bottom)], axis=1), ratio_of)


def _later_mid_bps(log: ChildLog, seconds: float) -> np.ndarray:
    return log.mid_at(log.decision[:, :, None] * log.step_s + log.arrives_ms / 1e3 + seconds)


def fill_statistics(log: ChildLog) -> dict[str, Interval]:
    """Every statistic of `FILL_STATISTICS`, by key."""
    filled, mid = log.filled_shares, log.mid_bps[:, :, None]
    has = filled > 0.0
    volume = lambda bps: np.where(has & np.isfinite(bps), bps * filled, 0.0)  # noqa: E731
    known = np.isfinite(np.broadcast_to((log.ask_bps - log.bid_bps)[:, :, None], filled.shape))
    effective, quoted = (
        2.0 * (log.price_bps - mid),
        np.broadcast_to((log.ask_bps - log.bid_bps)[:, :, None], filled.shape),
    )
    shown = np.where(log.dark[:, None, :], 0.0, log.shown_shares)
    lit_sent = np.where(log.dark[:, None, :], 0.0, log.sent_shares)
    reach, lit_filled = np.minimum(lit_sent, shown), np.where(log.dark[:, None, :], 0.0, filled)
    later = _later_mid_bps(log, 5.0)
    realised, impact = 2.0 * (log.price_bps - later), 2.0 * (later - mid)
    gap = np.where(has & np.isfinite(later), np.abs(effective - realised - impact), 0.0)
    worst = float(gap.max(initial=0.0))
    before = log.through_shares
    return {
        "e_over_q_percent": _ratio(np.where(known, volume(effective), 0.0), volume(quoted), 100.0),
        "at_or_inside_percent": _ratio(filled - log.outside_shares, filled, 100.0),
        "inside_percent": _ratio(log.inside_shares, filled, 100.0),
        "outside_percent": _ratio(log.outside_shares, filled, 100.0),
        "trade_through_percent": _ratio(before - log.excused_shares, filled, 100.0),
        "trade_through_before_percent": _ratio(before, filled, 100.0),
        "fill_rate_percent": _ratio(lit_filled, lit_sent, 100.0),
        "fade_percent": _ratio(reach - np.where(reach > 0.0, lit_filled, 0.0), reach, 100.0),
        "effective_spread_bps": _ratio(volume(effective), filled),
        "realised_spread_bps": _ratio(volume(realised), np.where(np.isfinite(later), filled, 0.0)),
        "price_impact_bps": _ratio(volume(impact), np.where(np.isfinite(later), filled, 0.0)),
        "impact_share": _ratio(volume(impact), np.where(np.isfinite(later), volume(effective), 0.0)),
        "identity_bps": Interval(worst, worst, worst),
        **{f"markout_{s:g}s_bps": _markout(log, s, slice(None)) for s in MARKOUT_S},
    }


def passive_statistics(log: ChildLog) -> dict[str, Interval]:
    """Every statistic of `PASSIVE_STATISTICS`, by key; fills at rest of an env step count from the last of them."""
    filled, at_s = log.passive_shares, log.decision[:, :, None] * log.step_s + log.passive_ms / 1e3
    out = {"passive_percent": _ratio(filled, log.quantity_shares[:, None, None], 100.0)}
    for seconds in PASSIVE_MARKOUT_S:
        gain = log.mid_at(at_s + seconds) - log.passive_price_bps
        known = (filled > 0.0) & np.isfinite(gain)
        markout = _ratio(np.where(known, gain * filled, 0.0), np.where(known, filled, 0.0))
        out[f"passive_markout_{seconds:g}s_bps"] = markout
    return out


def _markout(log: ChildLog, seconds: float, venues: slice) -> Interval:
    gain = (_later_mid_bps(log, seconds) - log.price_bps)[..., venues]
    filled = np.where(np.isfinite(gain), log.filled_shares[..., venues], 0.0)
    return _ratio(np.where(filled > 0.0, gain * filled, 0.0), filled)


def markouts_by_venue(log: ChildLog, seconds: float = 1.0) -> dict[str, Interval]:
    """Markout of the fills at each venue that filled anything, so long after them; positive is good for us."""
    return {
        name: _markout(log, seconds, slice(k, k + 1))
        for k, name in enumerate(log.venue_names)
        if (log.filled_shares[..., k] > 0.0).any()
    }
