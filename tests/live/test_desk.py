"""What a desk hears, without an env: what is derived from it, and what is refused in a sentence."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.errors import UserError
from sor_sb3.live import (
    Acknowledgement,
    Arrival,
    Child,
    Clock,
    Latency,
    ObservationBuilder,
    OrderReport,
    Quote,
    Recorder,
    Trade,
)
from sor_sb3.market.loading import load_market

SELECT, SPLIT, PLACE = "VenueSelect-v1", "OrderSplit-v1", "OrderPlace-v1"


def test_queues_are_estimated_from_trades():
    """Without a desk's own knowledge of its queues: what was displayed when it was sent, less sells since."""
    builder = ready(PLACE)
    market = builder.market
    action = np.full(2 * market.n_venues + 1, -1.0, dtype=np.float32)
    action[market.n_venues] = 1.0
    builder.observe(Clock(0.0, 0.0))
    (post,) = builder.act(action)
    venue = market.venue_names[0]
    builder.hear(Trade(0.5, venue, 250.0, 100.0))
    tell_books(builder, 5.0)
    row = builder.observe(Clock(5.0, 0.0))
    shares = market.scales[1]
    assert row[feature("queue_ahead")] == pytest.approx(math.log1p(300.0 / shares), rel=1e-6)
    assert row[feature("resting")] == pytest.approx(post.shares / market.order.quantity_shares)
    builder.act(action)
    builder.hear(OrderReport(6.0, venue, post.order, 100.0, post.shares - 100.0, queue_ahead_shares=0.0))
    tell_books(builder, 10.0)
    row = builder.observe(Clock(10.0, 0.0))
    assert row[feature("queue_ahead")] == 0.0
    assert row[MARKET_FEATURES.index("remaining")] == pytest.approx(1.0 - 100.0 / market.order.quantity_shares)


def feature(name: str, k: int = 0) -> int:
    return len(MARKET_FEATURES) + k * len(VENUE_FEATURES) + VENUE_FEATURES.index(name)


def tell_books(builder: ObservationBuilder, time_s: float, skip: str = "") -> None:
    """Every lit venue shows 400 shares a side, a bp off the midpoint at arrival."""
    for venue in builder.market.venues:
        if venue.dark is None and venue.name != skip:
            builder.hear(Quote(time_s, venue.name, -1.0, 400.0, 1.0, 400.0))


def ready(env: str = SPLIT, **options: Any) -> ObservationBuilder:
    """A builder of us_equity to which all but the clock has been told."""
    builder = ObservationBuilder("us_equity", env, **options)
    names = builder.market.venue_names
    recent = dict.fromkeys(names, 1000.0)
    builder.hear(Arrival(0.0, recent_volume_shares=recent, recent_outflow_shares=dict.fromkeys(names, 400.0)))
    for name in names:
        builder.hear(Latency(0.0, name, 0.3))
    tell_books(builder, 0.0)
    return builder


def test_a_desk_in_prices_and_a_desk_in_bps_observe_the_same():
    in_bps, in_px = ready(), ObservationBuilder("us_equity", SPLIT)
    names, mid_px = in_bps.market.venue_names, 64.0
    volume, outflow = dict.fromkeys(names, 1000.0), dict.fromkeys(names, 400.0)
    in_px.hear(Arrival(0.0, mid_px=mid_px, recent_volume_shares=volume, recent_outflow_shares=outflow))
    for venue in in_px.market.venues:
        in_px.hear(Latency(0.0, venue.name, 0.3))
        if venue.dark is None:
            in_px.hear(Quote(0.0, venue.name, 64.0 * (1 - 1e-4), 400.0, 64.0 * (1 + 1e-4), 400.0))
    rows = [builder.observe(Clock(0.0, 0.3)) for builder in (in_bps, in_px)]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)


def test_a_seller_sees_the_mirror():
    market = load_market("us_equity")
    rows = []
    for side, (bid, ask) in (("buy", (63.99, 64.02)), ("sell", (63.98, 64.01))):
        builder = ObservationBuilder(market, SPLIT)
        names = market.venue_names
        recent = dict.fromkeys(names, 1000.0), dict.fromkeys(names, 400.0)
        builder.hear(Arrival(0.0, side, 64.0, recent_volume_shares=recent[0], recent_outflow_shares=recent[1]))
        for venue in market.venues:
            builder.hear(Latency(0.0, venue.name, 0.3))
            if venue.dark is None:
                sizes = (300.0, 500.0) if side == "buy" else (500.0, 300.0)
                builder.hear(Quote(0.0, venue.name, bid, sizes[0], ask, sizes[1]))
        rows.append(builder.observe(Clock(0.0, 0.3)))
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4)


def test_rules_answer_a_desk():
    builder = ready()
    router = routers.make("net_price_sweep", market=builder.market)
    action, _ = router.predict(builder.observe(Clock(0.0, 0.0))[np.newaxis])
    children = builder.act(action[0])
    assert sum(child.shares for child in children if isinstance(child, Child)) == pytest.approx(250.0)


def test_masks_are_what_is_open():
    builder = ready(SELECT)
    assert builder.action_masks().all()


def test_a_desk_needs_neither_torch_nor_sb3():
    code = "import sys, sor_sb3.live; print([m for m in ('torch', 'stable_baselines3') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --------------------------------------------------------------------------------------------------- refusals


def told(*events: Any) -> None:
    builder = ready()
    for event in events:
        builder.hear(event)


def observed(builder: ObservationBuilder) -> ObservationBuilder:
    builder.observe(Clock(0.0, 0.0))
    return builder


def acted(builder: ObservationBuilder) -> ObservationBuilder:
    observed(builder).act(np.ones(builder.market.n_venues, dtype=np.float32))
    return builder


NAMES = load_market("us_equity").venue_names
LIT = [venue.name for venue in load_market("us_equity").venues if venue.dark is None]
REFUSED: list[tuple[str, Callable[[], Any]]] = [
    ("before any Arrival", lambda: ObservationBuilder("us_equity", SPLIT).hear(Latency(0.0, NAMES[0], 1.0))),
    ("game of draws", lambda: ObservationBuilder("notebook", SPLIT)),
    ("game of draws", lambda: Recorder(RoutingCore(SPLIT, "notebook", 1))),
    ("'NYSSE' is unknown", lambda: ready().hear(Latency(0.0, "NYSSE", 1.0))),
    ("came after an event at 3 s", lambda: told(Latency(3.0, LIT[0], 1.0), Latency(2.9, LIT[0], 1.0))),
    ("latency_ms of", lambda: ready().hear(Latency(0.0, LIT[0], math.nan))),
    ("bids 2 and asks 1", lambda: ready().hear(Quote(0.0, LIT[0], 2.0, 1.0, 1.0, 1.0))),
    ("has one side", lambda: ready().hear(Quote(0.0, LIT[0], None, 1.0, 1.0, 1.0))),
    ("ask_shares of", lambda: ready().hear(Quote(0.0, LIT[0], 0.0, 1.0, 1.0, -1.0))),
    ("lead away from it", lambda: ready().hear(Quote(0.0, LIT[0], 0.0, 1.0, 1.0, 1.0, ((1.0, 5.0),)))),
    ("no more than was traded", lambda: ready().hear(Trade(1.0, LIT[0], 10.0, 11.0))),
    ("no child is in flight", lambda: ready().hear(Acknowledgement(0.0, LIT[0], 0.0))),
    ("no more than was sent", lambda: acted(ready()).hear(Acknowledgement(0.1, LIT[0], 1e6))),
    ("does not rest there", lambda: ready().hear(OrderReport(0.0, LIT[0], 1, 0.0, 0.0))),
    ("side is 'short'", lambda: ready().hear(Arrival(0.0, side="short"))),
    ("'randomise' draws it", lambda: ready().hear(Arrival(0.0, quantity_shares=7.0))),
    ("one number for each of", lambda: ready().hear(Arrival(0.0, take_fee_bps={"NYSE": 0.1}))),
    ("expected both or none", lambda: ready().hear(Arrival(0.0, recent_volume_shares=dict.fromkeys(NAMES, 1.0)))),
    ("has no signal", lambda: ready().observe(0.0)),
    ("before the next observation is due, at 5 s", lambda: acted(ready()).observe(Clock(3.0, 0.0))),
    ("says that 4000 shares remain, and events say 5000", lambda: ready().observe(Clock(0.0, 0.0, 0.0, 4000.0))),
    ("call act first", lambda: observed(ready()).observe(Clock(5.0, 0.0))),
    ("call observe first", lambda: ready().act(np.ones(len(NAMES)))),
    ("which was missed", lambda: acted(ready(stale_after_s=99.0)).observe(Clock(11.0, 0.0))),
    ("is 5.1 s old at 5.1 s", lambda: acted(ready()).observe(Clock(5.1, 0.0))),
    ("stale_after_s", lambda: ObservationBuilder("us_equity", SPLIT, stale_after_s=-1.0)),
    ("'OrderSplitt-v1' is unknown", lambda: ObservationBuilder("us_equity", "OrderSplitt-v1")),
]  # fmt: skip


@pytest.mark.parametrize(("said", "wrong"), REFUSED, ids=[said for said, _ in REFUSED])
def test_what_cannot_be_is_refused_in_a_sentence(said, wrong):
    with pytest.raises(UserError, match=said.replace("(", r"\(")) as caught:
        wrong()
    assert "\n" not in str(caught.value)


def test_what_was_never_heard_is_named():
    recent = dict.fromkeys(NAMES, 1.0)
    arrival = Arrival(0.0, recent_volume_shares=recent, recent_outflow_shares=recent)
    builder = ObservationBuilder("us_equity", SPLIT)
    builder.hear(replace(arrival, recent_volume_shares=None, recent_outflow_shares=None))
    with pytest.raises(UserError, match="traded before the arrival is not known"):
        builder.observe(Clock(0.0, 0.0))
    builder.hear(arrival)
    with pytest.raises(UserError, match=f"no Latency of {NAMES[0]}"):
        builder.observe(Clock(0.0, 0.0))
    for name in NAMES:
        builder.hear(Latency(0.0, name, 0.3))
    tell_books(builder, 0.0, skip=LIT[1])
    with pytest.raises(UserError, match=f"no Quote of {LIT[1]}"):
        builder.observe(Clock(0.0, 0.0))


def test_a_refusal_changes_nothing():
    good, tried = ready(), ready()
    for _, wrong in (("", Quote(0.0, LIT[0], 2.0, 1.0, 1.0, 1.0)), ("", Trade(-1.0, LIT[0], 1.0, 2.0))):
        with pytest.raises(UserError):
            tried.hear(wrong)
    with pytest.raises(UserError):
        tried.observe(Clock(0.0, math.inf))
    assert good.observe(Clock(0.0, 0.5)).tobytes() == tried.observe(Clock(0.0, 0.5)).tobytes()
