"""TAQ text in its three forms against a plain reading: New York's time, round lots, exchanges, modes, corrections."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from sor_sb3.errors import UserError
from tests.market.formats.fixtures import converted, lines, write_text

NEW_YORK = ZoneInfo("America/New_York")
LETTERS = {"N": "NYSE", "P": "ARCA", "T": "NASDAQ", "C": "NSX"}


def at(clock):
    """UTC ns of a time of 2008-01-04 in New York, given to the second, and a fraction."""
    whole, _, fraction = clock.partition(".")
    return int(datetime.fromisoformat(f"2008-01-04 {whole}").replace(tzinfo=NEW_YORK).timestamp()) * 10**9 + int(
        fraction.ljust(9, "0") or 0
    )


CLOCKS = [f"{9 + (30 + i) // 60:02d}:{(30 + i) % 60:02d}:{i % 60:02d}" for i in range(120)]
ROWS = [
    (clock, "NPTC"[i % 4], round(190 + i / 100, 2), round(190.03 + i / 100, 2), 1 + i % 9, 2 + i % 5)
    for i, clock in enumerate(CLOCKS)
]


def monthly(day="20080104"):
    rows = [("ABC", day, clock.removeprefix("0"), bid, ofr, b, o, 12, ex) for clock, ex, bid, ofr, b, o in ROWS]
    return "q.csv", lines("SYMBOL,DATE,TIME,BID,OFR,BIDSIZ,OFRSIZ,MODE,EX", rows), ""


def daily():
    rows = [
        ("2008-01-04", f"{clock}.000001234", ex, "ABC", "", bid, b, ofr, o, "R") for clock, ex, bid, ofr, b, o in ROWS
    ]
    return "q.csv.gz", lines("DATE,TIME_M,EX,SYM_ROOT,SYM_SUFFIX,BID,BIDSIZ,ASK,ASKSIZ,QU_COND", rows), ".000001234"


def exchange():
    rows = [
        (clock.replace(":", "") + "000001234", ex, "ABC", bid, b, ofr, o, "R", 1) for clock, ex, bid, ofr, b, o in ROWS
    ]
    text = lines(
        "Time|Exchange|Symbol|Bid_Price|Bid_Size|Offer_Price|Offer_Size|Quote_Condition|Sequence_Number", rows, "|"
    )
    return "SPLITS_US_ALL_BBO_X_20080104.gz", f"{text}END|20080104|000000120\n", ".000001234"


def whole_times():
    rows = [(f"20080104 {clock}", ex, "ABC", bid, b, ofr, o, 12) for clock, ex, bid, ofr, b, o in ROWS]
    return "q.csv", lines('"DT","EX","SYMBOL","BID","BIDSIZ","OFR","OFRSIZ","MODE"', rows), ""


@pytest.mark.parametrize("form", [monthly, lambda: monthly("2008-01-04"), daily, exchange, whole_times])
def test_quotes_equal_a_plain_reading(tmp_path, form):
    name, text, fraction = form()
    quotes, _, summary = converted(tmp_path, "taq", write_text(tmp_path / name, text))
    assert [row["ts"] for row in quotes] == [at(clock + fraction) for clock in CLOCKS]
    assert [row["venue"] for row in quotes] == [LETTERS[ex] for _, ex, *_ in ROWS]
    names = ("bid_px", "ask_px", "bid_sz", "ask_sz")
    assert [tuple(q[n] for n in names) for q in quotes] == [
        (bid, ofr, 100 * b, 100 * o) for _, _, bid, ofr, b, o in ROWS
    ]
    assert (summary.tally.read, summary.venues["NSX"].symbol) == (120, "ABC")
    assert any("times 100" in line for line in summary.lines())


def test_sizes_in_shares_stay(tmp_path):
    name, text, _ = monthly()
    quotes, _, _ = converted(tmp_path, "taq", write_text(tmp_path / name, text), size_scale=1.0)
    assert [q["bid_sz"] for q in quotes] == [row[4] for row in ROWS]


def test_round_lots_are_of_quotes_alone(tmp_path):
    name, text, _ = monthly()
    tape = lines("SYMBOL,DATE,TIME,PRICE,SIZE,CORR,EX", [("ABC", "20080104", CLOCKS[0], 190, 300, "0", "N")])
    files = write_text(tmp_path / name, text), write_text(tmp_path / "t.csv", tape)
    for scale in (None, 100.0, 50.0):
        quotes, trades, _ = converted(tmp_path, "taq", *files, trades=True, size_scale=scale)
        assert (quotes[0]["bid_sz"], trades[0]["sz"]) == (ROWS[0][4] * (scale or 100.0), 300)


def test_modes_and_conditions_without_firm_quotes_do_not_quote(tmp_path):
    name, text, _ = monthly()
    quotes, _, summary = converted(tmp_path, "taq", write_text(tmp_path / name, text.replace(",12,N", ",4,N", 2)))
    assert [q["bid_px"] is None and q["ask_px"] is None for q in quotes[:6]] == [True, False, False, False, True, False]
    assert list(summary.tally.remarks.values()) == [2]
    name, text, _ = daily()
    quotes, _, _ = converted(tmp_path, "taq", write_text(tmp_path / name, text.replace(",R\n", ",N\n", 1)))
    assert [q["ask_px"] is None for q in quotes[:2]] == [True, False]


def test_trades_without_those_that_were_corrected(tmp_path):
    rows = [
        ("ABC", "20080104", clock, 190 + i / 100, 100 + i, 0, "0" if i % 10 else "8", "", "N")
        for i, clock in enumerate(CLOCKS)
    ]
    file = write_text(tmp_path / "t.csv", lines("SYMBOL,DATE,TIME,PRICE,SIZE,G127,CORR,COND,EX", rows))
    _, trades, summary = converted(tmp_path, "taq", file, quotes=False, trades=True)
    kept = [row for row in rows if row[6] == "0"]
    assert [(t["ts"], t["px"], t["sz"], t["side"]) for t in trades] == [(at(r[2]), r[3], r[4], "") for r in kept]
    assert summary.tally.dropped == {"trades that were corrected or cancelled later": 12}
    pipe = [(clock.replace(":", "") + "000000000", "D", "ABC", "@", 100, 190.5, "", "00") for clock in CLOCKS[:3]]
    head = "Time|Exchange|Symbol|Sale Condition|Trade Volume|Trade Price|Stop Stock|Trade Correction Indicator"
    file = write_text(
        tmp_path / "EQY_US_ALL_TRADE_20080104.gz", lines(head, pipe, "|") + "END|20080104|3" + "|" * 5 + "\n"
    )
    _, trades, summary = converted(tmp_path, "taq", file, quotes=False, trades=True)
    assert [(t["venue"], t["px"], t["sz"]) for t in trades] == [("FINRA", 190.5, 100)] * 3
    assert summary.tally.read == 3


def test_a_symbols_suffix_is_part_of_the_symbol(tmp_path):
    name, text, _ = daily()
    text = text.replace("ABC,,", "ABC,B,", 1)
    file = write_text(tmp_path / name, text)
    with pytest.raises(UserError, match="choose with --symbol"):
        converted(tmp_path, "taq", file)
    quotes, _, _ = converted(tmp_path, "taq", file, symbols=("ABC B",))
    assert len(quotes) == 1


def test_the_national_best_is_refused_and_a_missing_day_asked_for(tmp_path):
    file = write_text(tmp_path / "n.csv", "Time|Exchange|Symbol|Best_Bid_Price|Best_Offer_Price\n1|N|X|1|2\n")
    with pytest.raises(UserError, match="national best bid and offer, whose bid and ask are of different venues"):
        converted(tmp_path, "taq", file)
    _, text, _ = exchange()
    with pytest.raises(UserError, match="give --date"):
        converted(tmp_path, "taq", write_text(tmp_path / "quotes.txt", text))
    quotes, _, _ = converted(tmp_path, "taq", tmp_path / "quotes.txt", date="2008-01-04")
    assert quotes[0]["ts"] == at(f"{CLOCKS[0]}.000001234")


def test_summer_time_counts(tmp_path):
    name, text, _ = monthly("20080704")
    quotes, _, _ = converted(tmp_path, "taq", write_text(tmp_path / name, text))
    assert datetime.fromtimestamp(quotes[0]["ts"] / 1e9, ZoneInfo("UTC")).hour == 13
