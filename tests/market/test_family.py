"""Families of markets: what is drawn lies within the ranges, the same each time, and mistakes are one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_sb3.errors import UserError
from sor_sb3.market.family import MarketFamily, family_names, load_family
from sor_sb3.market.loading import HELDOUT, load_market

TINY: dict[str, Any] = {
    "model": "family",
    "groups": [
        {
            "base": "us_equity",
            "n_venues": [2, 6],
            "dark_pools": [0, 2],
            "fade_in_all": [0.4, 0.8],
            "displayed_slices": [3, 9],
            "draw": {
                "order.horizon_steps": [2, 4],
                "lit.take_fee_bps": [-0.2, 0.4],
                "lit.latency_ms": [0.05, 2],
                "dark.dark.zero_probability": [0.5, 0.9],
                "price.volatility_bps_per_sqrt_s": [0.3, 0.6],
            },
        },
        {"base": "crypto", "weight": 0.5, "n_venues": [2, 3], "draw": {"order.horizon_steps": [3, 3]}},
    ],
}


def write_family(folder: Path, **changes: Any) -> Path:
    """A small family's file; `changes` are of its first group."""
    first = {**TINY["groups"][0], **changes}
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump({**TINY, "groups": [first, TINY["groups"][1]]}), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> MarketFamily:
    found = load_family(str(write_family(tmp_path_factory.mktemp("family"))))
    assert found is not None
    return found


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**64 - 1), index=st.integers(0, 10_000))
def test_what_is_drawn_lies_within_the_ranges(family, seed, index):
    market = family.draw("train", seed, index)
    shares = market.name and market.price.volatility_bps_per_sqrt_s <= 0.6 and market.order.waves == 2
    if not shares:  # of crypto
        assert 2 <= market.n_venues <= 3 and market.order.horizon_steps == 3
        return
    dark = [venue for venue in market.venues if venue.dark is not None]
    lit = [venue for venue in market.venues if venue.dark is None]
    assert 2 <= market.n_venues <= 6 and len(dark) <= 2 and lit
    assert 2 <= market.order.horizon_steps <= 4
    assert all(-0.2 <= venue.take_fee_bps <= 0.4 and 0.05 <= venue.latency_ms <= 2 for venue in lit)
    assert all(0.5 <= venue.dark.zero_probability <= 0.9 for venue in dark)
    assert 0.4 - 1e-9 <= sum(venue.toxicity for venue in market.venues) <= 0.8 + 1e-9
    slice_shares = market.order.quantity_shares / market.order.horizon_steps
    assert slice_shares == pytest.approx(5000 / 20)  # the base's
    assert 3 - 1e-9 <= sum(venue.size_shares for venue in lit) / slice_shares <= 9 + 1e-9


def test_a_market_is_drawn_by_split_seed_and_number(family):
    assert family.draw("train", 3, 1) == family.draw("train", 3, 1)
    others = {
        repr(family.draw(*by).venues) for by in (("train", 3, 1), ("train", 3, 2), ("train", 4, 1), ("test", 3, 1))
    }
    assert len(others) == 4
    assert {family.draw("train", 0, k).n_venues for k in range(100)} == {2, 3, 4, 5, 6}


def test_shipped_families_are_made_of_markets_that_defaults_may_know():
    for name in family_names():
        shipped = load_family(name)
        assert shipped is not None and not any(group.base.name.startswith(HELDOUT) for group in shipped.groups)
        drawn = [shipped.draw("test", 1, index) for index in range(100)]
        assert min(market.n_venues for market in drawn) == 2 and max(market.n_venues for market in drawn) >= 10


def test_a_family_is_plain_data_and_read_back_from_it(family):
    again = MarketFamily.model_validate_json(family.model_dump_json())
    assert again.without_prose() == family.without_prose()
    assert again.draw("train", 5, 7) == family.draw("train", 5, 7)


def test_other_markets_are_no_families(tmp_path):
    assert load_family("us_equity") is None
    with pytest.raises(UserError, match=r"small\.yaml is a family of markets, which only train takes"):
        load_market(write_family(tmp_path))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"base": "us_equty"}, "market 'us_equty' is unknown (did you mean 'us_equity'?)"),
        ({"n_venues": [5, 3]}, "n_venues is [5, 3]; expected at least 2, and the lower end first"),
        ({"base": "crypto", "draw": {}}, "dark_pools is [0, 2] and 'crypto' has none to copy; take 0"),
        ({"draw": {"lit.take_fee": [0, 1]}}, "the market has no 'take_fee' there; expected the path of a number"),
        ({"draw": {"lit.latency_ms": [-1, 1]}}, "draw.venues.NASDAQ.latency_ms: -1.0 is not allowed"),
        ({"draw": {"venues.*.latency_ms": [1, 2]}}, "draw.venues.*.latency_ms; expected lit.FIELD or dark.FIELD"),
        ({"draw": {"order.waves": [1, 2]}}, "'order.waves' cannot be randomised"),
        ({"fade_in_all": [0, 1]}, "fade_in_all is [0.0, 1.0]; expected numbers above 0"),
        ({"venues": 3}, "field 'groups.0.venues' is unknown"),
        ({"draw": {"dark.name": [1, 2]}}, "only numbers can be randomised"),
        ({"draw": {"order.quantity_shares": [1, 2]}}, "a slice is as large as that of the base; set displayed_slices"),
        ({"displayed_slices": [1e-13, 1e-12]}, "a market that was drawn cannot be: venues."),
    ],
)
def test_mistakes_are_one_sentence(changes, said, tmp_path):
    file = write_family(tmp_path, **changes)
    with pytest.raises(UserError) as error:
        load_family(str(file))
    assert said in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)


def test_flags_of_a_market_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"takes no --market-set; change its file"):
        load_family(str(write_family(tmp_path)), market_set=["order.step_s=1"])
    with pytest.raises(UserError, match="family 'families/nothing' is unknown"):
        load_family("families/nothing")
