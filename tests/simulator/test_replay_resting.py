"""Resting orders in a replay, worked by hand: prints drive the queue, a touch that falls through fills the order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sor_sb3.market.loading import load_market
from sor_sb3.market.quotes import load_quotes
from sor_sb3.market.spec import ReplayMarket
from sor_sb3.simulator.batch import BatchSimulator
from tests.market.quote_fixtures import START_NS, write_quotes, write_table
from tests.simulator.test_replay import begin

BEGIN_S = 100.0
TRADES = [  # seconds after the order's arrival, venue, price, shares: the bid is 99.9, the ask 100.1
    (1.0, "A", 99.9, 80.0),
    (2.0, "A", 100.1, 500.0),  # a buy: not of our queue
    (6.0, "A", 99.9, 30.0),
    (11.0, "A", 99.9, 50.0),
]


def recorded(folder: Path, falls_at_s: float | None = None) -> ReplayMarket:
    """Venue A bids 99.9 for 100 shares, B is far off; the bid of A falls at a time after the order's arrival."""
    rows = [(float(t), venue, bid, 100.0, ask, 100.0) for t in range(0, 1200, 5) for venue, bid, ask in QUOTES]
    if falls_at_s is not None:
        at_s = BEGIN_S + falls_at_s
        rows = [row for row in rows if not (row[1] == "A" and row[0] > at_s)]
        rows += [(at_s + t, "A", 99.7, 100.0, 99.95, 100.0) for t in range(0, 900, 5)]
    write_quotes(folder / "quotes.csv", sorted(rows))
    ts, venue, px, sz = zip(*((START_NS + round((BEGIN_S + t) * 1e9), v, p, s) for t, v, p, s in TRADES), strict=True)
    trades = write_table(folder / "trades.csv", {"ts": ts, "venue": venue, "px": px, "sz": sz})
    order = {"quantity_shares": 50.0, "horizon_steps": 4, "step_s": 5.0}
    venues = [{"name": name, "latency_ms": 0.0, "latency_sigma": 0.0} for name in ("A", "B")]
    market = load_market(folder / "quotes.csv", trades_file=trades)
    assert isinstance(market, ReplayMarket)
    values = market.model_dump() | {"order": order, "venues": venues}
    return ReplayMarket.model_validate(values | {"response": values["response"] | {"cancel_half_life_s": 1e8}})


QUOTES = (("A", 99.9, 100.1), ("B", 99.0, 101.0))


def rest(simulator: BatchSimulator) -> None:
    simulator.step(np.zeros((1, 2)), np.zeros(1), rest=np.array([[1.0, 0.0]]))


def test_prints_drive_the_queue(tmp_path: Path) -> None:
    """100 ahead of 50: 80 sold, 20 are left ahead; 30 sold, 10 are ours; 50 sold, the other 40 are ours."""
    simulator = begin(recorded(tmp_path), BEGIN_S)
    for ahead, filled in ((20.0, 0.0), (0.0, 10.0), (0.0, 50.0)):
        rest(simulator)
        assert simulator.read("episode_passive_shares")[0, 0] == pytest.approx(filled, abs=1e-4)
        if filled < 50.0:
            assert simulator.read("rest_ahead_shares")[0, 0] == pytest.approx(ahead, abs=1e-4)
    assert simulator.ledger()["shortfall"][0] == pytest.approx(-10.0, abs=1e-6)  # 99.9 for a midpoint of 100


def test_falls_through(tmp_path: Path) -> None:
    """The near touch falls from 99.9 to 99.7 two seconds after arrival: all 50 are filled, at 99.9."""
    simulator = begin(recorded(tmp_path, falls_at_s=2.0), BEGIN_S)
    rest(simulator)
    assert simulator.read("episode_passive_shares")[0, 0] == pytest.approx(50.0)
    assert simulator.read("passive_ms")[0, 0] == pytest.approx(2000.0)
    assert simulator.read("passive_value_bps")[0, 0] == pytest.approx(-10.0 * 50.0)


def test_quote_rule(tmp_path: Path) -> None:
    """Sold is what trades below its venue's midpoint before the trade; half of what trades at it."""
    rows = [(float(t), venue, bid, 100.0, ask, 100.0) for t in range(0, 600, 5) for venue, bid, ask in QUOTES]
    quotes = write_quotes(tmp_path / "quotes.csv", rows)
    ts = [START_NS + round(t * 1e9) for t in (11.0, 12.0, 13.0)]
    columns = {"ts": ts, "venue": ["A"] * 3, "px": [99.95, 100.0, 100.05], "sz": [10.0, 20.0, 40.0]}
    recording = load_quotes(quotes, trades=write_table(tmp_path / "trades.csv", columns))
    assert recording.trade_cumulative_size is not None and recording.trade_cumulative_sold is not None
    np.testing.assert_allclose(recording.trade_cumulative_size, [10.0, 30.0, 70.0])
    np.testing.assert_allclose(recording.trade_cumulative_sold, [10.0, 20.0, 20.0])
