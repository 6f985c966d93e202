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
Book = tuple[tuple[float, float], ...]  # price and shares of three levels, best first; 0 shares: the book ends there
BOOK: Book = ((99.9, 100.0), (99.8, 300.0), (99.7, 500.0))


def recorded_books(folder: Path, later: Book, side: str) -> ReplayMarket:
    """A's near side is BOOK, and `later` from .5 s after our order was sent, which takes 1 s; in the second step 100
    shares hit it, at a price that says nothing of their side. For a sell all is mirrored about 100.
    """
    columns: dict[str, list[object]] = {name: [] for name in ("ts", "venue")}
    near, far = ("bid", "ask") if side == "buy" else ("ask", "bid")
    for t in sorted([*range(0, 1200, 5), BEGIN_S + 0.5]):
        for venue, offset, book in (("A", 0.0, later if t > BEGIN_S else BOOK), ("B", -1.0, BOOK)):
            columns["ts"].append(START_NS + round(t * 1e9))
            columns["venue"].append(venue)
            for level, (px, shares) in enumerate(book):
                number = f"_{level + 1}" if level else ""
                prices = (px + offset, 101.0 - offset + 0.1 * level)
                prices = prices if side == "buy" else (200.0 - prices[0], 200.0 - prices[1])
                for name, price, size in ((near, prices[0], shares), (far, prices[1], 900.0)):
                    columns.setdefault(f"{name}_px{number}", []).append(round(price, 6))
                    columns.setdefault(f"{name}_sz{number}", []).append(size)
    quotes = write_table(folder / "books.parquet", columns)
    hit = {"ts": [START_NS + round((BEGIN_S + 7.0) * 1e9)], "venue": ["A"], "px": [100.5], "sz": [100.0]}
    trades = write_table(folder / "sided.parquet", {**hit, "side": ["sell" if side == "buy" else "buy"]})
    order = {"quantity_shares": 50.0, "horizon_steps": 4, "step_s": 5.0, "repeg_ticks": 100, "side": side}
    values = load_market(quotes, trades_file=trades).model_dump()
    venues = [{"name": name, "latency_ms": 1000.0, "latency_sigma": 0.0} for name in ("A", "B")]
    still = values["response"] | {"cancel_half_life_s": 1e8}
    return ReplayMarket.model_validate(values | {"order": order, "venues": venues, "response": still})


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize(
    ("later", "joined_behind", "ahead", "filled"),
    [
        (BOOK, 100.0, 0.0, 0.0),  # at the touch: 100 before us, and 100 are sold
        (((100.0, 40.0), (99.9, 70.0), (99.8, 300.0)), 70.0, 10.0, 0.0),  # 40 are better; 60 reach the 70 before us
        (((100.0, 40.0), (99.95, 30.0), (99.9, 70.0)), 70.0, 40.0, 0.0),  # 70 are better
        (((100.0, 40.0), (99.95, 30.0), (99.8, 300.0)), 0.0, 0.0, 30.0),  # nobody at our price: 30 reach us
        (((100.1, 40.0), (100.05, 30.0), (100.0, 20.0)), 20.0, 10.0, 0.0),  # behind all: as many as at the last
        (((100.0, 40.0), (99.95, 30.0), (0.0, 0.0)), 30.0, 0.0, 0.0),  # a book that ends sooner: the same
        (((99.8, 300.0), (99.7, 500.0), (99.6, 10.0)), 0.0, 0.0, 50.0),  # a touch that falls before we come
    ],
)
def test_recorded_levels_are_the_queue(
    tmp_path: Path, side: str, later: Book, joined_behind: float, ahead: float, filled: float
) -> None:
    simulator = begin(recorded_books(tmp_path, later, side), BEGIN_S)
    rest(simulator)
    assert simulator.read("rest_ahead_shares")[0, 0] == pytest.approx(joined_behind, abs=1e-4)
    assert simulator.read("episode_passive_shares")[0, 0] == 0.0
    rest(simulator)
    assert simulator.read("rest_ahead_shares")[0, 0] == pytest.approx(ahead, abs=1e-4)
    assert simulator.read("episode_passive_shares")[0, 0] == pytest.approx(filled, abs=1e-4)


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
