"""A desk's own log: five children worked by hand, the same numbers as the built-in analysis, and what is refused."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sor_sb3 import cli
from sor_sb3.errors import UserError
from sor_sb3.evaluation.desk_analysis import DeskAnalysis, analyse_desk, desk_measures
from sor_sb3.evaluation.desk_log import (
    CHILD_COLUMNS,
    FILL_COLUMNS,
    OPTIONAL_CHILD_COLUMNS,
    OPTIONAL_FILL_COLUMNS,
    read_desk_log,
)
from sor_sb3.evaluation.measures import REGISTERED
from sor_sb3.market.quotes import load_quotes
from tests.market.quote_fixtures import SECOND_NS, START_NS, write_quotes, write_table

QUOTES = [  # seconds, venue, bid, size, ask, size
    (0.0, "A", 99.98, 500, 100.02, 300),
    (0.0, "B", 99.99, 200, 100.01, 400),  # mid 100.00
    (10.0, "A", 100.00, 300, 100.04, 300),
    (10.0, "B", 100.01, 200, 100.03, 200),  # mid 100.02
    (20.0, "A", 100.02, 400, 100.06, 400),
    (20.0, "B", 100.03, 100, 100.05, 100),  # mid 100.04
    (35.0, "A", 100.00, 300, 100.04, 300),
    (35.0, "B", 100.01, 200, 100.03, 200),  # mid 100.02
    (120.0, "A", 100.00, 300, 100.04, 300),
    (120.0, "B", 100.01, 200, 100.03, 200),
]
# a buy of 1,000 from second 5 to 60, of which 800 fill; and a sell that nobody says the size of
CHILDREN: dict[str, list[Any]] = {
    "parent_id": ["P1", "P1", "P1", "P1", "P2"],
    "child_id": ["c1", "c2", "c3", "c4", "c5"],
    "side": ["buy", "buy", "buy", "buy", "sell"],
    "venue": ["B", "A", "DARK", "A", "B"],
    "sent": [12.0, 12.0, 12.0, 25.0, 30.0],
    "quantity": [200, 300, 100, 300, 150],
    "limit_px": [100.03, 100.04, 100.02, 100.06, 100.02],
    "arrival": [12.001, 12.002, 12.003, 25.002, None],
    "ack": [12.002, 12.004, 12.005, 25.003, None],
    "parent_quantity": [1000, 1000, 1000, 1000, None],
    "parent_arrival": [5.0, 5.0, 5.0, 5.0, None],
    "parent_end": [60.0, 60.0, 60.0, 60.0, None],
}
FILLS: dict[str, list[Any]] = {
    "child_id": ["c1", "c2", "c3", "c4", "c5", "c5"],
    "fill": [12.001, 12.002, 12.003, 25.002, 30.001, 30.001],
    "fill_px": [100.03, 100.04, 100.02, 100.06, 100.03, 100.02],
    "fill_shares": [200, 200, 100, 300, 100, 50],
    "fee": [0.60, 0.40, 0.10, 0.90, -0.20, 0.05],
}
TIMES = ("sent", "arrival", "ack", "parent_arrival", "parent_end", "fill")


def stamped(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Columns as a file has them: seconds become UTC nanoseconds."""
    ns = lambda s: None if s is None else START_NS + round(s * SECOND_NS)  # noqa: E731
    return {f"{k}_ts" if k in TIMES else k: [ns(v) for v in of] if k in TIMES else of for k, of in columns.items()}


class Desk:
    """The example's files in a folder."""

    def __init__(self, folder: Path, suffix: str = ".parquet") -> None:
        self.folder, self.suffix = folder, suffix
        self.quotes = write_quotes(folder / "quotes.parquet", QUOTES)
        self.children = write_table(folder / f"children{suffix}", stamped(CHILDREN))
        self.fills = write_table(folder / f"fills{suffix}", stamped(FILLS))

    def change(self, table: str, **columns: Any) -> None:
        """Write a table again, with other columns; None takes one out."""
        held = {**stamped(CHILDREN if table == "children" else FILLS), **columns}
        write_table(self.folder / f"{table}{self.suffix}", {k: v for k, v in held.items() if v is not None})

    def analysis(self, **options: Any) -> DeskAnalysis:
        return analyse_desk(read_desk_log(self.fills, self.children), load_quotes(self.quotes), **options)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def test_every_measure_of_five_children_by_hand(desk):
    found = desk.analysis(horizons_s=(0.5, 10.0), later_s=10.0)
    # P1: arrival mid 100.00, mid at the first child 100.02, at the end 100.02; 800 of 1,000 filled
    bps = 1e4 / (1000 * 100.00)
    p1 = {
        "delay_bps": 800 * 0.02 * bps,
        "trading_bps": (200 * 0.01 + 200 * 0.02 + 100 * 0.00 + 300 * 0.04) * bps,
        "opportunity_bps": 200 * 0.02 * bps,
        "fees_of_order_bps": (0.60 + 0.40 + 0.10 + 0.90) * bps,
        "shortfall_bps": 1.6 + 1.8 + 0.4 + 0.2,
        "arrival_slippage_bps": (200 * 0.03 + 200 * 0.04 + 100 * 0.02 + 300 * 0.06) / 800 / 100.00 * 1e4,
        "fees_bps": 2.00 / (800 * 100.00 + 34.00) * 1e4,
        "all_in_bps": 4.25 + 2.00 / 80034.00 * 1e4,
        "completion_percent": 80.0,
        "time_to_completion_s": math.nan,
        "reroutes": 1.0,  # 600 sent and 500 filled at second 12, then another child
        "children": 4.0,
        "fill_rate_percent": 100.0 * 800 / 900,
        "herfindahl": (600**2 + 200**2 + 100**2) / 900**2,
        "entropy_nats": -sum(w * math.log(w) for w in (600 / 900, 200 / 900, 100 / 900)),
        "arrival_mid": 100.00,
        "filled_shares": 800.0,
    }
    # P2: arrival and start are its first child, mid 100.04; its size is what filled
    p2_bps = 1e4 / (150 * 100.04)
    p2 = {
        "delay_bps": 0.0,
        "trading_bps": (100 * 0.01 + 50 * 0.02) * p2_bps,
        "opportunity_bps": math.nan,
        "fees_of_order_bps": (-0.20 + 0.05) * p2_bps,
        "shortfall_bps": (2.00 - 0.15) * p2_bps,
        "arrival_slippage_bps": 2.00 / 150 / 100.04 * 1e4,
        "completion_percent": math.nan,
        "reroutes": 0.0,
        "children": 1.0,
        "herfindahl": 1.0,
        "entropy_nats": 0.0,
        "arrival_mid": 100.04,
        "filled_shares": 150.0,
    }
    assert found.parent_names == ["P1", "P2"]
    for p, wanted in enumerate((p1, p2)):
        for key, value in wanted.items():
            got = found.parents[key][p]
            assert (math.isnan(got) and math.isnan(value)) or got == near(value), (key, p)
    # over fills: (shares, effective, quoted at receipt, later mid, price, mid at receipt, side)
    rows = [
        (200, 0.01, 100.04, 100.03, 100.02, 1),
        (200, 0.02, 100.04, 100.04, 100.02, 1),
        (100, 0.00, 100.04, 100.02, 100.02, 1),
        (300, 0.02, 100.02, 100.06, 100.04, 1),
        (100, 0.01, 100.02, 100.03, 100.04, -1),
        (50, 0.02, 100.02, 100.02, 100.04, -1),
    ]
    average = lambda of: sum(row[0] * of(row) for row in rows) / 950  # noqa: E731
    effective = average(lambda r: 2 * r[1] / r[4] * 1e4)
    quoted = average(lambda r: 0.02 / r[4] * 1e4)
    realised = average(lambda r: 2 * r[5] * (r[3] - r[2]) / r[4] * 1e4)
    markout = average(lambda r: r[5] * (r[2] - r[3]) / r[3] * 1e4)
    totals = {
        "quoted_spread_bps": quoted,
        "effective_spread_bps": effective,
        "realised_spread_bps": realised,
        "price_impact_bps": effective - realised,
        "e_over_q_percent": 100.0 * effective / quoted,
        "markout_bps": markout,
        "fill_rate_percent": 100.0 * 950 / 1050,
        "fade_percent": 100.0 * (1 - (200 + 200 + 300 + 150) / (200 + 300 + 300 + 100)),
        "trade_through_percent": 100.0 * 300 / 950,  # c4, while B showed 100.05; c1 took B's 100.03 before c2 paid more
        "trade_through_old_percent": 100.0 * 300 / 950,
        "fees_mils": 1.85 / 950 * 1e4,
        "price_improvement_bps": 1e4 / 950 * ((-200 + 100) * 0.01 / 100.02 - (300 + 50) * 0.01 / 100.04),
        "improved_percent": 100.0 * 100 / 950,
        "at_quote_percent": 100.0 * (200 + 100) / 950,
        "outside_percent": 100.0 * (200 + 300 + 50) / 950,
        "size_improvement_shares": (0 + 0 + 100 + 0 + 0) / 5,
        "any_fill_percent": 100.0,
        "full_fill_percent": 80.0,
        "latency_p50_ms": 3.5,
        "staleness_p50_ms": 2.0,
        "shortfall_bps": (4.0 + 1.85 * p2_bps) / 2,
        "shortfall_sd_bps": abs(4.0 - 1.85 * p2_bps) / math.sqrt(2),
        "shortfall_cvar95_bps": 4.0,
        "children": 2.5,
    }
    for key, value in totals.items():
        assert found.totals[key] == near(value), key
    assert set(REGISTERED) <= set(totals), "a registered measure is not worked by hand"
    assert found.markout_bps[1] == near(markout) and found.realised_spread_bps[1] == near(realised)
    half_second = average(lambda r: r[5] * (r[4] - r[3]) / r[3] * 1e4)  # the mid has not moved yet
    assert found.markout_bps[0] == near(half_second)
    assert found.known_percent.tolist() == [100.0, 100.0]


def test_venues_of_the_example_by_hand(desk):
    found = desk.analysis(horizons_s=(10.0,), later_s=10.0)
    assert found.venue_names == ["A", "B", "DARK"]
    wanted = {
        "routed_percent": [100.0 * n / 1050 for n in (600, 350, 100)],
        "executed_percent": [100.0 * n / 950 for n in (500, 350, 100)],
        "fill_rate_percent": [100.0 * 500 / 600, 100.0, 100.0],
        "fade_percent": [100.0 * (1 - 500 / 600), 100.0 * (1 - 350 / 300), math.nan],
        "full_fill_percent": [50.0, 100.0, 100.0],
        "average_fill_shares": [250.0, 175.0, 100.0],
        "fees_mils": [1.30 / 500 * 1e4, 0.45 / 350 * 1e4, 0.10 / 100 * 1e4],
        "trade_through_percent": [60.0, 0.0, 0.0],
        "latency_p50_ms": [3.5, 2.0, 5.0],
    }
    for key, values in wanted.items():
        np.testing.assert_allclose(found.venues[key], values, rtol=1e-9, atol=1e-9, err_msg=key)
    a = (200 * 0.0 + 300 * (100.02 - 100.06) / 100.06) / 500 * 1e4
    b = (200 * 0.01 / 100.03 + 100 * 0.01 / 100.03 + 50 * 0.0) / 350 * 1e4
    np.testing.assert_allclose(found.venue_markout_bps[:, 0], [a, b, 0.02 / 100.02 * 1e4], rtol=1e-9)
    routed = {row["venue"]: row["shares_routed"] for row in found.rule_606}
    assert routed == {"A": 600.0, "B": 350.0, "DARK": 100.0}
    assert [row["orders"] for row in found.rule_605] == [5]


def test_a_quote_younger_than_a_second_excuses_and_a_sweep_of_it_is_no_trade_through(desk):
    sent, filled = (12.0, 12.0, 12.0, 35.4, 30.0), (12.001, 12.002, 12.003, 35.5, 30.001, 30.001)
    desk.change("children", sent_ts=[START_NS + round(s * SECOND_NS) for s in sent], arrival_ts=None, ack_ts=None)
    at, price = [START_NS + round(s * SECOND_NS) for s in filled], [100.03, 100.04, 100.02, 100.04, 100.03, 100.02]
    desk.change("fills", fill_ts=at, fill_px=price)
    found = desk.analysis().totals  # c4 pays 100.04 half a second after B has come down to 100.03 from 100.05
    assert (found["trade_through_percent"], found["trade_through_old_percent"]) == (near(100.0 * 300 / 950), 0.0)
    desk.change("children", sent_ts=[START_NS + s * SECOND_NS for s in (12, 11, 12, 25, 30)])
    desk.change("fills")
    found = desk.analysis().totals  # c2 no longer goes with c1, which took B's quote
    assert found["trade_through_percent"] == near(100.0 * 500 / 950)


def one_table(desk: Desk) -> Path:
    children = stamped(CHILDREN)
    place = [children["child_id"].index(name) for name in FILLS["child_id"]]
    joined = {key: [values[i] for i in place] for key, values in children.items()} | stamped(FILLS)
    lost = {**dict.fromkeys(joined), **{key: values[0] for key, values in children.items()}, "child_id": "c6"}
    return write_table(desk.folder / "log.parquet", {key: [*values, lost[key]] for key, values in joined.items()})


def test_one_table_of_fills_with_their_children_reads_as_two(desk):
    alone, two = read_desk_log(one_table(desk)), read_desk_log(desk.fills, desk.children)
    assert (alone.n_children, two.n_children) == (6, 5)
    np.testing.assert_array_equal(alone.sent_shares[:5], two.sent_shares)
    np.testing.assert_array_equal(alone.fill_px, two.fill_px)
    np.testing.assert_array_equal(alone.child, two.child)
    assert alone.of_children(alone.fill_shares).tolist() == [200, 200, 100, 300, 150, 0]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_csv_and_text_times_read_as_parquet(desk, suffix, tmp_path):
    other = tmp_path / "csv"
    other.mkdir()
    text = Desk(other, suffix)
    plain = [np.datetime64(START_NS + round(s * SECOND_NS), "ns").astype(str) for s in CHILDREN["sent"]]
    for times in (plain, [f"{t}Z" for t in plain], [f"{t}+00:00" for t in plain]):
        text.change("children", sent_ts=times)
        assert text.analysis().totals == pytest.approx(desk.analysis().totals, nan_ok=True)


MISTAKES: dict[str, tuple[str, dict[str, Any], str]] = {
    "columns": (
        "children",
        {"side": None, "venue": None},
        "lacks the columns side (buy or sell (b, s, 1, -1)); ven",
    ),
    "fill columns": ("fills", {"fill_px": None}, "lacks the columns fill_px (price of the execution): it has child_id"),
    "side": ("children", {"side": ["buy", "x", "buy", "buy", "sell"]}, "'side', data row 2: 'x'; expected buy or sell"),
    "two sides": (
        "children",
        {"side": ["buy", "s", "buy", "buy", "sell"]},
        "expected what the first child of parent P1",
    ),
    "quantity": (
        "children",
        {"quantity": [200, 0, 100, 300, 150]},
        "'quantity', data row 2: 0; expected a number above",
    ),
    "no quantity": ("children", {"quantity": [200, None, 1, 3, 1]}, "'quantity', data row 2: None; expected a number"),
    "twice": ("children", {"child_id": ["c1", "c2", "c2", "c4", "c5"]}, "data row 3: 'c2'; expected a new one"),
    "no name": ("children", {"venue": ["B", "", "DARK", "A", "B"]}, "'venue', data row 2: ''; expected a name"),
    "seconds": ("children", {"sent_ts": [1_704_206_100] * 5}, "'sent_ts', data row 1: 1704206100; expected a UTC time"),
    "words": ("children", {"sent_ts": ["noon"] * 5}, "'sent_ts', data row 1: 'noon'; expected a UTC time"),
    "stranger": ("fills", {"child_id": ["c1", "c9", "c3", "c4", "c5", "c5"]}, "data row 2: 'c9'; expected a child"),
    "price": ("fills", {"fill_px": [100.03, -1, 100.02, 100.06, 100.03, 100.02]}, "child c2 has a fill_px of -1"),
    "early": ("fills", {"fill_ts": [START_NS] * 6}, "child c1 has a fill 12 s before its sent_ts"),
    "limit": (
        "fills",
        {"fill_px": [100.03, 100.04, 100.02, 100.07, 100.03, 100.02]},
        "100.07, worse than its limit_px",
    ),
    "too much": ("fills", {"fill_shares": [201, 200, 100, 300, 100, 50]}, "child c1 filled 201 shares of the 200 sent"),
    "some fees": ("fills", {"fee": [0.6, None, 0.1, 0.9, -0.2, 0.05]}, "'fee', data row 2: ''; expected a number in"),
    "order": (
        "children",
        {"parent_quantity": [700] * 4 + [None]},
        "parent P1 filled 800 shares of a parent_quantity of",
    ),
    "answer": ("children", {"ack_ts": [START_NS] * 5}, "child c1 has an ack_ts before its sent_ts"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_one_sentence(desk, name):
    table, columns, said = MISTAKES[name]
    desk.change(table, **columns)
    with pytest.raises(UserError) as error:
        desk.analysis()
    assert said in str(error.value)
    assert str(desk.folder / table) in str(error.value)


def test_quotes_of_another_day_and_parents_out_of_their_time_are_refused(desk):
    day = 86_400 * SECOND_NS
    later = {key: [None if v is None else v + day for v in of] for key, of in stamped(CHILDREN).items() if "_ts" in key}
    desk.change("children", **later)
    desk.change("fills", fill_ts=[t + day for t in stamped(FILLS)["fill_ts"]])
    with pytest.raises(UserError, match="no child was sent while the quotes are known: the quotes go from 2024-"):
        desk.analysis()
    desk.change("children", parent_end_ts=[START_NS + 13 * SECOND_NS] * 4 + [None])
    desk.change("fills")
    with pytest.raises(UserError, match="parent P1 has children or fills before its parent_arrival_ts or after"):
        desk.analysis()


def test_a_log_without_fees_or_fills_has_the_measures_that_it_can(desk):
    desk.change("fills", fee=None)
    found = desk.analysis()
    assert math.isnan(found.totals["fees_mils"]) and found.parents["shortfall_bps"][0] == near(3.8)
    desk.change("fills", **{key: values[:1] for key, values in stamped(FILLS).items()})
    assert desk.analysis().totals["any_fill_percent"] == 20.0


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["sor-sb3", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_prints_and_writes_the_report(desk, monkeypatch, capsys, tmp_path):
    out = tmp_path / "report"
    arguments = ("tca", desk.fills, "--children", desk.children, "--quotes", desk.quotes)
    assert call(monkeypatch, *arguments, "--horizons", "0.5,10", "--out", out) == 0
    said = capsys.readouterr().out
    assert "2 parent orders, 5 children, 6 fills; 950 shares filled of 1,050 sent." in said
    assert "No quotes of DARK" in said and "markout, DARK" in said
    assert {file.name for file in out.iterdir()} == {"report.html", "report.md", "report.json", "tca_parents.csv"}
    data = json.loads((out / "report.json").read_text())
    assert data["totals"]["fill_rate_percent"] == pytest.approx(100.0 * 950 / 1050)
    assert data["files"] == {"fills": "fills.parquet", "children": "children.parquet", "quotes": "quotes.parquet"}
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    for measure in (m for key, m in desk_measures(1.0).items() if key in data["totals"]):
        assert f"| {measure.label} |" in text, measure.label
    assert page.count("<svg") == 2 and "realised spread, 1 s later" in page
    assert (out / "tca_parents.csv").read_text().splitlines()[1].startswith("P1,4,1.6,1.8,0.4,")
    before = page
    assert call(monkeypatch, *arguments, "--out", out) == 2
    assert "is not empty" in capsys.readouterr().err and (out / "report.html").read_text() == before
    assert call(monkeypatch, *arguments, "--horizons", "soon") == 2
    assert "--horizons is 'soon'; expected seconds" in capsys.readouterr().err


def test_the_example_of_the_page_runs(monkeypatch, capsys, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "tca.md").read_text(encoding="utf-8")
    blocks = re.findall(r"`(\w+\.csv)`:\n\n```csv\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in blocks] == ["children.csv", "fills.csv", "quotes.csv"]
    monkeypatch.chdir(tmp_path)
    for name, text in blocks:
        Path(name).write_text(text, encoding="utf-8")
    (command,) = re.findall(r"^\$ sor-sb3 (tca fills.csv --children.*)$", page, re.MULTILINE)
    assert call(monkeypatch, *command.split()) == 0
    said = json.loads(Path("report/report.json").read_text(encoding="utf-8"))["totals"]
    for key, told in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", page, re.MULTILINE):
        assert said[key] == pytest.approx(float(told), abs=0.5 * 10.0 ** -len(told.partition(".")[2])), key


def test_every_column_that_is_read_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "tca.md").read_text(encoding="utf-8")
    for columns in (CHILD_COLUMNS, OPTIONAL_CHILD_COLUMNS, FILL_COLUMNS, OPTIONAL_FILL_COLUMNS):
        for name, meaning in columns.items():
            assert f"| `{name}` | {meaning} |" in page, name
