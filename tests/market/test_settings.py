"""Tests of `sor_sb3.market.settings`: one field of a market by its path, for presets, YAML files and recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market, parse_market
from sor_sb3.market.settings import parse_settings
from sor_sb3.market.spec import ReplayMarket
from tests.market.quote_fixtures import write_recording

YAML = """
order: {quantity_shares: 1000, horizon_steps: 5, step_s: 1}
venues:
  - {name: A, take_fee_bps: 0.3, offset_bps: 1, size_shares: 500, latency_ms: 0.2}
  - {name: B.X, take_fee_bps: 0.1, offset_bps: 1, size_shares: 400, latency_ms: 0.3}
  - {name: D, take_fee_bps: 0, latency_ms: 0.3, dark: {zero_probability: 0.5, power_exponent: 1.5, max_shares: 100}}
"""


def changed(*pairs: str) -> Any:
    return parse_market(YAML, "m.yaml", Path(), parse_settings(pairs))


def test_values_are_set_where_the_path_says() -> None:
    market = changed(
        "order.step_s=2",
        "order.lot_shares=100",
        "price.volatility_bps_per_sqrt_s=1e-1",
        "quotes.level_profile=[1, 3]",
        "venues.*.latency_ms=4",
        "venues.B.X.latency_ms=5",
        "venues.*.dark.max_shares=7",
        "randomise.informed.news_per_s=[0, 0.1]",
        "name=other",
        "order_protection=true",
    )
    assert (market.order.step_s, market.order.lot_shares, market.order.quantity_shares) == (2.0, 100.0, 1000.0)
    assert (market.price.volatility_bps_per_sqrt_s, market.quotes.level_profile) == (0.1, (1.0, 3.0))
    assert [venue.latency_ms for venue in market.venues] == [4.0, 5.0, 4.0]
    assert [venue.dark is None for venue in market.venues] == [True, True, False]
    assert (market.venues[2].dark.max_shares, market.venues[2].dark.power_exponent) == (7.0, 1.5)
    assert market.randomise == {"informed.news_per_s": (0.0, 0.1)}
    assert (market.name, market.order_protection) == ("other", True)


def test_a_field_may_be_set_to_nothing() -> None:
    assert changed("order.lot_shares=100").order.lot_shares == 100.0
    assert changed("order.lot_shares=null").order.lot_shares is None


def test_a_specification_can_be_changed_and_stays_as_it_was() -> None:
    market = changed()
    other = load_market(market, {"venues.A.take_fee_bps": -0.2})
    assert (market.venues[0].take_fee_bps, other.venues[0].take_fee_bps) == (0.3, -0.2)
    assert load_market(other, {"venues.A.take_fee_bps": 0.3}) == market
    assert market.without_prose() != other.without_prose()  # what the hash of a run covers


def test_what_is_not_set_keeps_the_default_of_its_market(tmp_path: Path) -> None:
    market = load_market(write_recording(tmp_path / "q.parquet"), {"latency.tail_factor": 5})
    assert isinstance(market, ReplayMarket)
    assert (market.latency.tail_factor, market.latency.tail_probability) == (5.0, 0.0)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("order.stp_s=1", ["m.yaml has no field 'stp_s' in 'order'", "did you mean 'step_s'", "horizon_steps"]),
        ("step_s=1", ["no field 'step_s' in the market", "did you mean 'order.step_s'"]),
        ("latency_ms=1", ["did you mean 'venues.*.latency_ms'"]),
        ("volumes=1", ["did you mean 'volume'"]),
        ("venues.C.latency_ms=1", ["no venue 'C'", "A, B.X, D"]),
        ("venues.A.latency=1", ["no field 'latency' in 'venues.A'", "did you mean 'latency_ms'"]),
        ("venues.A=1", ["whole venue", "venues.NAME.FIELD"]),
        ("venues.*.dark.max_share=1", ["no field 'max_share' in 'venues.*.dark'", "did you mean 'max_shares'"]),
        ("order.step_s.x=1", ["no fields in 'order.step_s'"]),
        ("model=replay", ["no field 'model'"]),
        ("order.step_s=-1", ["m.yaml with --market-set order.step_s: field 'order.step_s' is -1", "above 0"]),
        ("order.horizon_steps=many", ["field 'order.horizon_steps' is 'many'"]),
        ("order.horizon_steps=1.5", ["field 'order.horizon_steps' is 1.5"]),
        ("order.side=both", ["'buy' or 'sell'"]),
        ("order.step_s=", ["field 'order.step_s' is None"]),
        ("venues.*.latency_ms=-2", ["venues.0.latency_ms", "-2", "expected a number from 0"]),
        ("venues.*.offset_bps=2", ["venue 'D' is dark and has offset_bps"]),
        ("venues.A.dark.max_shares=2", ["venues.0.dark.zero_probability", "missing"]),
    ],
)
def test_what_cannot_be_set_is_said_in_a_sentence(pair: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        changed(pair)
    said = str(error.value)
    assert "--market-set" in said and "\n" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("pairs", "word"),
    [
        (["order.step_s"], "expected path=value"),
        (["=3"], "expected path=value"),
        (["order.step_s=[1, 2"], "not valid YAML"),
        (["order.step_s=1", "order.step_s=2"], "given twice"),
    ],
)
def test_pairs_that_cannot_be_read(pairs: list[str], word: str) -> None:
    with pytest.raises(UserError, match="--market-set") as error:
        parse_settings(pairs)
    assert word in str(error.value) and "\n" not in str(error.value)


def test_recordings_are_measured_with_what_is_set(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "q.parquet", trades_path=tmp_path / "t.parquet")
    (tmp_path / "m.yaml").write_text("{model: replay, quotes_file: q.parquet, venues: [NYSE, ARCA]}")
    settings = parse_settings(["order.horizon_steps=4", "order.step_s=2", "order.side=sell", "venues.*.latency_ms=3"])
    direct = load_market(path, settings, venues=["NYSE", "ARCA"], take_fee_bps={"NYSE": 0.3})
    from_yaml = load_market(tmp_path / "m.yaml", {**settings, "venues.NYSE.take_fee_bps": 0.3, "name": "q"})
    assert isinstance(direct, ReplayMarket)
    assert direct == from_yaml
    assert (direct.order.horizon_steps, direct.order.step_s, direct.order.side) == (4, 2.0, "sell")
    assert [venue.latency_ms for venue in direct.venues] == [3.0, 3.0]
    plain = load_market(path, venues=["NYSE", "ARCA"])
    # an even slice is half of what is shown at the bids, whatever the horizon
    assert direct.order.quantity_shares / 4 == pytest.approx(plain.order.quantity_shares / 20, rel=0.5)
    with pytest.raises(UserError, match=r"order.side.*too short|too short.*--market-set"):
        load_market(path, {"order.horizon_steps": 300, "order.side": "sell"})
    with pytest.raises(UserError, match="no venue 'NASDAQ'"):
        load_market(path, {"venues.NASDAQ.latency_ms": 1}, venues=["NYSE", "ARCA"])
    here = load_market(direct, {"venues.NYSE.latency_ms": 9})
    assert [venue.latency_ms for venue in here.venues] == [9.0, 3.0]
