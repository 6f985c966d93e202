"""Bad prints: found, counted and named; good quotes, jumps and crashes included, are left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sor_sb3
from sor_sb3.market.cleaning_report import CleaningReport
from sor_sb3.market.outliers import NEIGHBOURS, far_quotes
from sor_sb3.market.quotes import QuoteFileError, load_quotes
from tests.market.quote_fixtures import SECOND_NS, START_NS, write_quotes, write_recording

FILLER = 9223372036.854775807  # INT64_MAX * 1e-9
VENUES = ("ARCA", "NASDAQ", "NYSE")


def rows(n: int = 3000, venues: tuple[str, ...] = VENUES, seed: int = 0) -> list[list[Any]]:
    """Quotes in turn, three a second, of venues around one random walk, 1 to 3 bps wide."""
    rng = np.random.default_rng(seed)
    mid = 100.0 * np.exp(np.cumsum(1e-5 * rng.standard_normal(n)))
    half = 0.01 * (0.5 + rng.random(n))
    return [
        [i / 3.0, venues[i % len(venues)], mid[i] - half[i], 100.0 + i % 7, mid[i] + half[i], 100.0 + i % 5]
        for i in range(n)
    ]


def report_of(folder: Path, quotes: list[list[Any]], **options: Any) -> CleaningReport:
    return load_quotes(write_quotes(folder / "q.parquet", [tuple(row) for row in quotes]), **options).report


def spoil(quotes: list[list[Any]], where: range | list[int], factor: float) -> None:
    for i in where:
        quotes[i][2], quotes[i][4] = quotes[i][2] * factor, quotes[i][4] * factor


def of_venue(quotes: list[list[Any]], venue: str) -> list[int]:
    return [i for i, row in enumerate(quotes) if row[1] == venue]


# ------------------------------------------------------------------------------------------------ bad prints


@pytest.mark.parametrize("factor", [1.01, 1.2, 10.0, 100.0, 1e9, 0.8, 1e-3])
def test_a_bad_print_is_no_quote_is_counted_and_the_worst_is_named(tmp_path: Path, factor: float) -> None:
    quotes = rows()
    spoil(quotes, [500, 2001], factor)
    report = report_of(tmp_path, quotes)
    assert (report.far, report.not_quoting, report.rows_kept) == (2, 2, 3000)
    said = next(line for line in report.lines() if "far from" in line)
    assert said.endswith(": 2.")
    assert quotes[500][1] in said or quotes[2001][1] in said
    assert "at 2024-01-02T14:37:46.666Z, mid" in said or "at 2024-01-02T14:46:07.000Z, mid" in said


@pytest.mark.parametrize("filler", [FILLER, float(2**63 - 1), 1e300, 0.0, -1.0, 1e-300])
def test_fillers_of_vendors_are_no_prices(tmp_path: Path, filler: float) -> None:
    quotes = rows()
    for i in (500, 2001):
        quotes[i][2] = quotes[i][4] = filler
    quotes[1000][4] = filler  # on one side alone
    report = report_of(tmp_path, quotes)
    assert (report.no_price, report.far, report.not_quoting, report.only_bids) == (2, 0, 2, 1)


@pytest.mark.parametrize("filler", [1e300, float(2**63 - 1)])
def test_fillers_of_vendors_are_no_sizes(tmp_path: Path, filler: float) -> None:
    quotes = rows()
    quotes[500][3] = filler
    assert report_of(tmp_path, quotes).no_size == 1


def test_two_bad_prints_do_not_decide_who_is_better(tmp_path: Path) -> None:
    rules = {name: name for name in ("round_robin", "pro_rata")}
    costs = {}
    for factor in (1.0, 1.2, 100.0):
        quotes = rows()
        spoil(quotes, [500, 2001], factor)
        path = write_quotes(tmp_path / f"{factor}.parquet", [tuple(row) for row in quotes])
        result = sor_sb3.evaluate(rules, market=str(path), scenarios=50)
        costs[factor] = [result.cost(name).mean for name in rules]
    assert costs[1.2] == pytest.approx(costs[1.0], rel=0.02)
    assert costs[100.0] == pytest.approx(costs[1.0], rel=0.02)


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("venues", [VENUES, ("NYSE",)])
def test_a_short_run_of_bad_prints_is_found_by_its_neighbours(
    tmp_path: Path, length: int, venues: tuple[str, ...]
) -> None:
    quotes = rows(venues=venues)
    spoil(quotes, of_venue(quotes, "NYSE")[300 : 300 + length], 1.2)
    assert report_of(tmp_path, quotes).far == length


@pytest.mark.parametrize("venues", [VENUES, ("NASDAQ", "NYSE")])
def test_a_long_run_of_impossible_prints_is_found_by_the_other_venues(tmp_path: Path, venues: tuple[str, ...]) -> None:
    quotes = rows(venues=venues)
    spoil(quotes, of_venue(quotes, "NYSE")[300:360], 100.0)
    assert report_of(tmp_path, quotes).far == 60


def test_all_venues_failing_together_are_found(tmp_path: Path) -> None:
    quotes = rows()
    spoil(quotes, range(600, 606), 10.0)  # two quotes of each
    assert report_of(tmp_path, quotes).far == 6


@pytest.mark.parametrize("where", [0, -1])
def test_first_and_last_quote_are_judged_too(tmp_path: Path, where: int) -> None:
    quotes = rows()
    spoil(quotes, [of_venue(quotes, "ARCA")[where]], 1.2)
    assert report_of(tmp_path, quotes).far == 1


def test_a_venue_in_another_unit_is_refused_with_the_reason(tmp_path: Path) -> None:
    quotes = rows()
    spoil(quotes, of_venue(quotes, "NYSE"), 100.0)
    report = report_of(tmp_path, quotes)
    assert report.dropped_venues == (("NYSE", "of 1,000 rows 1,000 far from all other quotes"),)
    with pytest.raises(QuoteFileError, match="far from all other quotes"):
        load_quotes(tmp_path / "q.parquet", venues=["NYSE", "ARCA", "NASDAQ"])


# ----------------------------------------------------------------------------------------------- good quotes


def test_a_jump_that_stays_is_kept_and_told(tmp_path: Path) -> None:
    quotes = rows(venues=("NYSE",))
    spoil(quotes, range(1500, 3000), 1.3)
    report = report_of(tmp_path, quotes)
    assert report.far == 0
    said = next(line for line in report.warnings() if "largest jump" in line)
    assert "NYSE at 2024-01-02T14:43:20.000Z, mid 129.97" in said


@pytest.mark.parametrize("factor", [1.02, 0.9, 1.3])
def test_a_spike_that_the_other_venues_follow_is_kept(tmp_path: Path, factor: float) -> None:
    quotes = rows()
    spoil(quotes, range(1500, 1506), factor)  # two quotes of each venue, then back
    assert report_of(tmp_path, quotes).far == 0


def test_a_real_jump_of_one_venue_before_the_others_is_kept(tmp_path: Path) -> None:
    quotes = rows()
    spoil(quotes, [i for i in range(1500, 3000) if quotes[i][1] == "NYSE" or i > 1530], 1.04)
    assert report_of(tmp_path, quotes).far == 0


@pytest.mark.parametrize("seed", range(6))
def test_no_good_quote_of_a_recording_is_thrown_out(tmp_path: Path, seed: int) -> None:
    path = write_recording(tmp_path / "q.parquet", seed=seed, duration_s=7200.0, updates_per_s=0.3 + seed)
    assert load_quotes(path).report.far == 0


def test_no_quote_of_a_wild_market_is_thrown_out(tmp_path: Path) -> None:
    """Student t moves with three degrees of freedom, 30 bps a quote, of venues that all follow one price."""
    rng = np.random.default_rng(1)
    mid = 100.0 * np.exp(np.cumsum(3e-3 * rng.standard_t(3, size=2000)))
    quotes = [[float(i), v, m * 0.9995, 100.0, m * 1.0005, 100.0] for i, m in enumerate(mid) for v in VENUES]
    assert report_of(tmp_path, quotes).far == 0


def test_quotes_on_both_sides_of_a_gap_say_nothing_of_one_another(tmp_path: Path) -> None:
    quotes = (
        rows(300)
        + [[row[0] + 10_000.0, *row[1:]] for row in rows(3)]
        + [[row[0] + 20_000.0, *row[1:]] for row in rows(300)]
    )
    spoil(quotes, range(300, 303), 1.4)
    assert report_of(tmp_path, quotes).far == 0


# -------------------------------------------------------------------------------------------------- property


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_bad=st.integers(0, 8),
    log_factor=st.floats(0.02, 20.0),
    up=st.booleans(),
    n_venues=st.integers(1, 4),
)
def test_exactly_the_bad_prints_are_found(seed: int, n_bad: int, log_factor: float, up: bool, n_venues: int) -> None:
    rng = np.random.default_rng(seed)
    per_venue = 200
    walk = np.log(50.0) + np.cumsum(1e-5 * rng.standard_t(4, size=per_venue * n_venues))
    venue = np.repeat(np.arange(n_venues), per_venue)
    ts = np.concatenate([np.sort(rng.choice(per_venue * n_venues, per_venue, replace=False)) for _ in range(n_venues)])
    mid = np.exp(walk[ts])
    # far enough apart, within a venue and between venues, not to confirm one another
    places = rng.choice(per_venue // (2 * NEIGHBOURS + 2), size=n_bad, replace=False) * (2 * NEIGHBOURS + 2)
    bad = np.zeros(len(mid), dtype=bool)
    bad[places + per_venue * rng.integers(0, n_venues, n_bad)] = True
    mid[bad] *= np.exp(log_factor if up else -log_factor)
    half = 0.5e-4 * mid
    far, worst, _ = far_quotes(
        np.searchsorted(venue, np.arange(n_venues + 1)), START_NS + ts * SECOND_NS, mid - half, mid + half, 300.0
    )
    np.testing.assert_array_equal(far, bad)
    assert (worst is None) == (n_bad == 0)
