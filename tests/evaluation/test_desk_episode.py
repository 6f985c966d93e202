"""An episode of this package, written down as a desk's log, has the numbers of the built-in analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from sor_sb3.evaluation.analysis import PolicyAnalysis, analyse
from sor_sb3.evaluation.children import ChildLog
from sor_sb3.evaluation.desk_analysis import DeskAnalysis, analyse_desk
from sor_sb3.evaluation.desk_log import read_desk_log
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.market.loading import load_market
from sor_sb3.market.quotes import load_quotes
from sor_sb3.simulator.views import Truth
from tests.market.quote_fixtures import SECOND_NS, START_NS, write_recording, write_table

VENUES = ("ARCA", "NASDAQ", "NYSE")
STEP_S, HORIZON = 5.0, 8
QUARTERS = {"latency_ms": 250.0, "latency_sigma": 0.0, "feed_latency_ms": 0.0}
"""Children arrive at quarters of a second, where the built-in analysis has looked at the midpoint."""
SETTINGS = {
    "order.quantity_shares": 4000.0,
    "order.horizon_steps": HORIZON,
    "order.step_s": STEP_S,
    "order.wave_timeout_ms": 500.0,
    "order.limit": "sweep",
    "latency.tail_probability": 0.0,
    "venues.*.refill_half_life_s": 1e-6,  # the recording does not know what we took
    "venues.ARCA.take_fee_bps": 0.3,
    "venues.NYSE.take_fee_bps": -0.1,
    **{f"venues.*.{field}": value for field, value in QUARTERS.items()},
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recording(tmp_path_factory.mktemp("quotes") / "quotes.parquet", venues=VENUES, duration_s=900.0)


def played(recording: Path, rule: str, waves: int) -> tuple[ChildLog, np.ndarray]:
    """What a rule did in four windows, and when these began, seconds from the recording's origin."""
    market = load_market(recording, {**SETTINGS, "order.waves": waves})
    evaluator = Evaluator("OrderSplit-v1", market, 4)
    log = evaluator.score(rule, rule, record=True).children
    assert log is not None
    return log, Truth(evaluator.core.simulator).start_s


def until(recording: Path, end_ns: int, path: Path) -> Path:
    """The quotes up to a time, which is the last that is known: as the built-in analysis knows none beyond a window."""
    table = pq.read_table(recording).to_pydict()
    keep = [i for i, ts in enumerate(table["ts"]) if ts <= end_ns]
    last = [max(i for i in keep if table["venue"][i] == venue) for venue in VENUES]
    columns = {name: [*(of[i] for i in keep), *(of[i] for i in last)] for name, of in table.items()}
    columns["ts"][len(keep) :] = [end_ns] * len(last)
    return write_table(path, columns)


def as_desk(log: ChildLog, i: int, start_ns: int, folder: Path) -> tuple[Path, Path]:
    """Tables of fills and children of one parent order."""
    ns = lambda seconds: start_ns + round(float(seconds) * SECOND_NS)  # noqa: E731
    px = lambda bps: float(log.arrival_mid_px[i] * (1.0 + bps / 1e4))  # noqa: E731
    children: dict[str, list[Any]] = {}
    fills: dict[str, list[Any]] = {}
    for t, k in zip(*np.nonzero(log.sent_shares[i]), strict=True):
        name, sent_s = f"{t}-{k}", log.time_s[i, t]
        arrival_s = log.decision[i, t] * log.step_s + log.arrives_ms[i, t, k] / 1e3
        child = {
            "parent_id": "P",
            "child_id": name,
            "side": "buy",
            "venue": log.venue_names[k],
            "sent_ts": ns(sent_s),
            "quantity": float(log.sent_shares[i, t, k]),
            "arrival_ts": ns(sent_s + log.latency_ms[i, t, k] / 1e3),
            "ack_ts": ns(sent_s + log.ack_ms[i, t, k] / 1e3),
            "parent_quantity": float(log.quantity_shares[i]),
            "parent_arrival_ts": start_ns,
            "parent_end_ts": ns(log.horizon_steps[i] * log.step_s),
        }
        for column, value in child.items():
            children.setdefault(column, []).append(value)
        filled = float(log.filled_shares[i, t, k])
        if filled > 0.0:
            fee = filled * float(log.fee_bps[i, k] * log.arrival_mid_px[i]) / 1e4
            fill = {"child_id": name, "fill_ts": ns(arrival_s), "fill_px": px(log.price_bps[i, t, k])}
            for column, value in {**fill, "fill_shares": filled, "fee": fee}.items():
                fills.setdefault(column, []).append(value)
    return write_table(folder / "fills.parquet", fills), write_table(folder / "children.parquet", children)


def both(log: ChildLog, i: int, start_s: float, recording: Path, folder: Path) -> tuple[PolicyAnalysis, DeskAnalysis]:
    folder.mkdir()
    built_in = analyse(log.select(slice(i, i + 1)))
    start_ns = START_NS + round(float(start_s) * SECOND_NS)
    end_ns = start_ns + round(HORIZON * STEP_S * SECOND_NS)
    quotes = load_quotes(until(recording, end_ns, folder / "quotes.parquet"))
    desk_log = read_desk_log(*as_desk(log, i, start_ns, folder))
    return built_in, analyse_desk(desk_log, quotes, built_in.horizons_s.tolist(), later_s=STEP_S)


QUARTERS_ONLY = "trade_through_old_percent"
"""The built-in analysis looks at quotes every quarter of a second, and at none before an order's arrival."""


def unequal(found: dict[str, Any], wanted: dict[str, Any], keys: set[str]) -> list[str]:
    """The keys that differ by more than 1e-9, with both values."""
    different = []
    for key in sorted(keys):
        a, b = np.asarray(found[key], dtype=float), np.asarray(wanted[key], dtype=float)
        if not np.allclose(a, b, rtol=1e-9, atol=1e-9, equal_nan=True):
            different.append(f"{key}: {a} for {b}")
    return different


@pytest.mark.parametrize(("rule", "waves"), [("net_price_sweep", 1), ("round_robin", 1), ("pro_rata", 2)])
def test_an_episode_as_a_desks_log_has_the_numbers_of_the_built_in_analysis(recording, tmp_path, rule, waves):
    log, starts = played(recording, rule, waves)
    compared = 0
    for i, start_s in enumerate(starts):
        built_in, desk = both(log, i, start_s, recording, tmp_path / str(i))
        parents, told = dict(built_in.parents), dict(desk.parents)
        parents["shortfall_bps"] -= parents.pop("cleanup_bps") + parents.pop(
            "opportunity_bps"
        )  # a desk sweeps nothing:
        told["shortfall_bps"] -= told.pop("opportunity_bps")  # what it did not fill is opportunity
        assert unequal(told, parents, set(parents) & set(told)) == []
        of_shortfall = {key for key in desk.totals if key.startswith("shortfall") or key == "opportunity_bps"}
        totals = set(built_in.totals) & set(desk.totals) - of_shortfall - {QUARTERS_ONLY}
        assert {"e_over_q_percent", "markout_bps", "fill_rate_percent", "trade_through_percent"} <= totals
        assert unequal(desk.totals, built_in.totals, totals) == []
        place = [log.venue_names.index(name) for name in desk.venue_names]
        venues = {key: values[place] for key, values in built_in.venues.items()}
        assert unequal(desk.venues, venues, set(venues) & set(desk.venues) - {QUARTERS_ONLY}) == []
        horizons = ("markout_bps", "realised_spread_bps", "price_impact_bps", "known_percent")
        told, wanted = ({key: getattr(of, key) for key in horizons} for of in (desk, built_in))
        assert unequal(told, wanted, set(horizons)) == []
        assert {row["venue"]: row for row in desk.rule_606}.keys() == set(desk.venue_names)
        compared += len(totals)
    assert compared > 100 and (log.filled_shares > 0.0).sum() > 30
